"""All printing to people: console, live display, tables, pager."""
