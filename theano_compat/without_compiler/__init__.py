"""What computes where there is no C++ compiler: NumPy, on whole arrays."""
