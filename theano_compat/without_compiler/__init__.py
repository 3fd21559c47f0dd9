"""Computes whole arrays with NumPy where there is no C++ compiler."""
