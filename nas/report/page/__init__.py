"""One self-contained HTML page about a study: what a page is made of, its sections, how it is written."""
