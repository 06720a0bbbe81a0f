"""One typed record per file that a run keeps, and the tables whose columns are the fields of their rows."""
