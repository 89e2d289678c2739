vcl 4.1;

# AgeZero for Varnish 7: purges that prove themselves.
#
# Include this file after your backends and BEFORE every vcl_* sub of your own:
#
#     vcl 4.1;
#     backend default { .host = "127.0.0.1"; .port = "3000"; }
#     include "/etc/varnish/agezero.vcl";
#     sub vcl_recv { ... }
#
# Varnish joins subs of one name in the order in which they come, and a return in one ends them all. So this file has to come first; it
# returns only where it must. Anything of yours that rewrites the host or the URL into what *is* the object's name may come before it.
# Start varnishd with a listener of its own for the agent, which nobody else can reach:
#
#     varnishd ... -a :80 -a agezero=/run/varnish/agezero.sock,user=varnish,group=agezero,mode=0660
#
# How it works. A request may be answered from the cache only while the lease holds, which the agent renews and which is compared with the
# clock here, for each request. A fetch notes the counters of its URL's names (the URL, its first folder, its host, all tags, everything)
# when it begins. A purge first moves a counter, then removes what is stored. A fetch whose counters moved meanwhile is not stored. What was
# just being stored at that moment is met by two more guards: a hit on a young object (some twenty seconds) compares the counters again,
# and the agent repeats a purge a second later where a fetch of that name was so recent. All of it is in memory; varnishd's child that starts anew
# has a new boot id, no lease and no objects.
#
# Counters are token buckets of vmod vsthrottle that never fill up again: a number that only falls, kept in trees, by name. The names are
# numbers of a bounded range, so they take a bounded amount of memory (at most 40 MiB), and two URLs that share one only spoil each other's fetches.

import directors;
import purge;
import std;
import str;
import var;
import vsthrottle;
import xkey;
@CANARY_BACKEND@
sub vcl_init {
    new agezero_hash = directors.shard();
    # A reload of the VCL in a running child must change nothing. Once no VCL with this file was loaded, the modules have forgotten what they knew.
    if (std.integer(var.global_get("agezero_loaded"), 0) == 0) {
        var.global_set("agezero_boot", "" + std.time2real(now, 0.0) + "-" + std.random(0, 1000000000) + "-" + std.random(0, 1000000000));
@EMPTY_PLACES@
        var.global_set("agezero_token", "0");
        var.global_set("agezero_young", "3600");
        var.global_set("agezero_wide_moved", "0");
        var.global_set("agezero_moved", "0");
        var.global_set("agezero_issued", "0");  # what was set last is found first
        var.global_set("agezero_until", "0");
    }
    var.global_set("agezero_loaded", "" + (std.integer(var.global_get("agezero_loaded"), 0) + 1));
}

sub vcl_fini {
    var.global_set("agezero_loaded", "" + (std.integer(var.global_get("agezero_loaded"), 0) - 1));
}

