"""What people look at: charts, tables, and the HTML pages of runs, comparisons and the demo."""
