"""Varnish 7: purges by xkey and bans, the in-flight race closed by counters in VCL, fenced by a lease in VCL."""
