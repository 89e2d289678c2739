"""The purge log's adapters, one file per engine; all pass the same contract suite."""
