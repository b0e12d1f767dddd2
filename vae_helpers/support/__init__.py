"""What no reader of a notebook needs: argument checks, compiled programs, progress, messages."""
