"""What each notebook computes and draws: its tables and its figures, neighbours in one module."""
