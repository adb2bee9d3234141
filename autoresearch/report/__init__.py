"""HTML, Markdown and plot of a session, made from the record alone."""
