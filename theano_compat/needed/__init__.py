"""What import, compiling and right results need on today's Python, NumPy and SciPy."""
