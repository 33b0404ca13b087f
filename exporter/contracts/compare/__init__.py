"""How far apart two runs may be, and how two arrays differ."""
