"""The reader of the mapped purge table in LuaJIT, for nginx, OpenResty and Traffic Server."""
