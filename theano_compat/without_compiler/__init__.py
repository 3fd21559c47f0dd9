"""Computes with NumPy, on whole arrays, where there is no C++ compiler."""
