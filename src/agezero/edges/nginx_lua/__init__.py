"""Your own nginx, by Lua: Debian's with ``libnginx-mod-http-lua``, or OpenResty."""
