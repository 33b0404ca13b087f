"""Files in a lower precision (int8, four bits, float16), in the real numbers that they round.

in_real_numbers   the way in: the file's function, without its roundings
real_nodes        what nodes that compute with stored integers mean
real_writer       the graph as it is being written
dequantise        the numbers that stored integers stand for
"""
