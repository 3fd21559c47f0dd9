"""What makes programs faster, and changes no number by more than its last places."""
