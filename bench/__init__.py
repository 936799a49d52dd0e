"""``make bench``: what Pulsetrail costs, beside peers and floors that are measured in the same run.

::

    __main__.py   the command
    workloads/    one module for each workload: who competes, what is asked, how it is measured
    stage.py      what a workload gets to work with: rounds, turns, places to write figures to
    results.py    pure: samples -> medians, ratios, verdicts
    tables.py     results as a table for the terminal, as Markdown, as JSON
    plots.py      results as one picture a workload
    machine.py    what it ran on

A figure on a shared machine means nothing by itself. Contestants take turns round by round, every comparison is a ratio
of two values of the same round, and what is reported is the median of those ratios.
"""
