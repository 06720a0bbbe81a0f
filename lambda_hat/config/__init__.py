"""What a study, a card and a problem may say, and how they are read."""
