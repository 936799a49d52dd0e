"""The collector: takes the browsers' own account of their connections, and browsers' network reports."""
