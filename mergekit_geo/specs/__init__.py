"""What each command is asked, as a value: its options, declared once."""
