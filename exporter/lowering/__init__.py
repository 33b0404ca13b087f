"""Lowering the precision of a file: which nodes stay in float32, and what the rest costs.

layers       what may be lowered: nodes of the float32 file, and the taps that show them
own_errors   every layer's own error in a lowered file, fed PyTorch's values
choice       which layers stay in float32, as a linear program in integers
outcome      what a lowered file does at the outputs, by running it
search       all of these in turn; rounds: choose, run, correct, choose again
confirm      cases that had no part in the choice, and every layer by itself
explain      somebody else's lowered file: layers by damage
restore      ... with some of them put back in float32

The engines that write files are in ``execution.quantisers``; nothing is rounded here.
"""
