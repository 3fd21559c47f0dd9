"""Patches that compute whole arrays with NumPy if there is no C++ compiler."""
