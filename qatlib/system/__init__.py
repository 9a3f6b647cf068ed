"""What the computer gives: folders, files that appear whole, compilers, a terminal."""
