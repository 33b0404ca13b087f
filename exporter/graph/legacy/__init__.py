"""The fall-back: a file of torch's legacy exporter, and the trace behind it as a program of ours.

    trace       the module is run once and every op is written down, as ``torch.jit.trace`` does
    functional  writes into memory and into views of it, as values
    translate   the trace -> ``Program``: PyTorch's side of every value
    file        the same trace -> ONNX; values of the file carry the names of the program

A trace is what one run did. Which way the model's Python took there, and every size that it read
as a number, is in it for good; so what was traced is held against the module at other sizes, as any
captured program is, and a model that decides by its data is refused here as well.
"""
