"""Patches that make programs faster; they change no number by more than its last digits."""
