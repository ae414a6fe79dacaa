"""What a process does for itself: its forks, its log, and signals that interrupt a call."""
