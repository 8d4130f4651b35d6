"""What a learned start does best, and where something simpler wins: each is trained, measured, drawn and said."""
