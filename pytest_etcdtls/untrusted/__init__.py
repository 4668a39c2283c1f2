"""What others wrote: text is made printable, files are opened and JSON is read within bounds."""
