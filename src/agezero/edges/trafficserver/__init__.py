"""Apache Traffic Server, by ts_lua: ``tslua.so`` of its (on Debian: experimental) plugins."""
