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

# ---------------------------------------------------------------------------------------------------------------------------------
# The agent's listener. Every answer carries the mark "AgeZero: 1"; a 200 without it comes from somewhere else and proves nothing.

sub agezero_control {
    if (req.method != "AGEZERO") {
        return (synth(405, "the listener of the agent"));
    }
    if (req.url == "/state") {
        return (synth(200));
    }
    if (std.integer(req.http.AgeZero-Token, -1) < std.integer(var.global_get("agezero_token"), 0)) {
        return (synth(409, "a newer agent has taken over"));
    }
    if (req.http.AgeZero-Boot != var.global_get("agezero_boot")) {
        return (synth(409, "the cache has restarted"));
    }
    if (std.integer(req.http.AgeZero-Token, -1) > std.integer(var.global_get("agezero_token"), 0)) {
        var.global_set("agezero_token", req.http.AgeZero-Token);
    }
    if (req.url == "/urls" || req.url == "/soft-urls") {
        call agezero_purge_urls;
    }
    if (req.url == "/tags" || req.url == "/soft-tags") {
        call agezero_purge_tags;
    }
    if (req.url == "/ban") {
        call agezero_ban;
    }
    if (req.url == "/empty") {
        var.global_set("agezero_" + req.http.AgeZero-Place, "!");
        return (synth(200));
    }
    if (req.url == "/lease") {
        # The end is moved last: a reader between the two sees the old end with the new beginning, which is never longer than either.
        var.global_set("agezero_young", req.http.AgeZero-Young);
        var.global_set("agezero_issued", req.http.AgeZero-Issued);
        var.global_set("agezero_until", req.http.AgeZero-Until);
        return (synth(200));
    }
    return (synth(404, "unknown command"));
}

# Up to 32 URLs. AgeZero-Keys: their keys for xkey; AgeZero-1 to -32: the names of their counters.
sub agezero_purge_urls {
    set req.http.AgeZero-Kind = "u";
    if (req.url == "/soft-urls") {
        set req.http.AgeZero-Kind = "s";
    }
@BUMPS@
    var.global_set("agezero_moved", req.xid);  # after the counters: who began later has seen them moved
    if (req.url == "/soft-urls") {
        set req.http.AgeZero-Count = xkey.softpurge(req.http.AgeZero-Keys);
    } else {
        set req.http.AgeZero-Count = xkey.purge(req.http.AgeZero-Keys);
    }
    return (synth(200));
}

# What is being purged, for agezero_look_again: in a place of its own, before any counter is moved. As long as it has no limit it concerns every object;
# then those alone whose fetch began earlier. Where there is no place left, it's any object that is not younger.
sub agezero_place {
    if (req.http.AgeZero-Place == "crowded") {
        var.global_set("agezero_crowded", "" + std.time2real(now, 0.0));
    } elsif (req.http.AgeZero-Place) {
        var.global_set("agezero_limit_" + req.http.AgeZero-Place, "-1");
        var.global_set("agezero_" + req.http.AgeZero-Place, req.http.AgeZero-Value);
    }
    if (!req.http.AgeZero-Repeat && vsthrottle.is_denied("o", @COUNTER@)) {
        return (synth(503, "a counter is at its end"));
    }
}

sub agezero_placed {
    if (!req.http.AgeZero-Repeat) {  # after the counters, as in agezero_purge_urls
        var.global_set("agezero_wide_moved", req.xid);
        var.global_set("agezero_moved", req.xid);
    }
    if (req.http.AgeZero-Place && req.http.AgeZero-Place != "crowded") {
        var.global_set("agezero_limit_" + req.http.AgeZero-Place, "" + vsthrottle.remaining("o", @COUNTER@));
    }
}

sub agezero_purge_tags {
    set req.http.AgeZero-Again = "1";
    if (req.url == "/soft-tags") {
#+counter
        if (!req.http.AgeZero-Repeat && vsthrottle.is_denied("st", @COUNTER@)) {
            return (synth(503, "a counter is at its end"));
        }
#-counter
        set req.http.AgeZero-Count = xkey.softpurge(req.http.AgeZero-Keys);
    } else {
        call agezero_place;
#+counter
        if (!req.http.AgeZero-Repeat && vsthrottle.is_denied("t", @COUNTER@)) {
            return (synth(503, "a counter is at its end"));
        }
#-counter
        call agezero_placed;
        set req.http.AgeZero-Count = xkey.purge(req.http.AgeZero-Keys);
    }
    return (synth(200));
}

# AgeZero-1: the name of the counter of a folder, a host or everything. AgeZero-Repeat: it was moved before.
# AgeZero-Since: only what was fetched before that moment, a time that an earlier answer gave.
sub agezero_ban {
    set req.http.AgeZero-Again = "1";
    call agezero_place;
#+counter
    if (!req.http.AgeZero-Repeat && vsthrottle.is_denied(req.http.AgeZero-1, @COUNTER@)) {
        return (synth(503, "a counter is at its end"));
    }
#-counter
    call agezero_placed;
    if (req.http.AgeZero-Since) {
        set req.http.AgeZero-Ban = "obj.age > " + (std.time2real(now, 0.0) - std.real(req.http.AgeZero-Since, 0.0)) + "s && " + req.http.AgeZero-Ban;
    }
    if (std.ban(req.http.AgeZero-Ban)) {
        return (synth(200));
    }
    return (synth(400, "the ban was refused: " + std.ban_error()));
}

sub vcl_synth {
    if (local.socket == "agezero" && req.esi_level == 0) {
        unset resp.http.Server;
        unset resp.http.X-Varnish;
        unset resp.http.Retry-After;
        set resp.http.AgeZero = "1";
        set resp.http.AgeZero-Boot = var.global_get("agezero_boot");
        set resp.http.AgeZero-Now = std.time2real(now, 0.0);  # as of this sub, so after what was done
        if (req.url == "/state") {
            set resp.http.AgeZero-Token = var.global_get("agezero_token");
            set resp.http.AgeZero-Key = agezero_hash.key(req.http.AgeZero-Try);
        }
        if (req.http.AgeZero-Seq) {
            set resp.http.AgeZero-Seq = req.http.AgeZero-Seq;
        }
        if (req.http.AgeZero-Count) {
            set resp.http.AgeZero-Count = req.http.AgeZero-Count;
        }
        if (req.http.AgeZero-Again) {
            set resp.http.AgeZero-Again = req.http.AgeZero-Again;
        }
        if (resp.status == 200) {
            set resp.body = "";
        } else {
            set resp.body = resp.reason;
        }
        return (deliver);
    }
}

# ---------------------------------------------------------------------------------------------------------------------------------
# Requests

sub vcl_recv {
    if (local.socket == "agezero" && req.esi_level == 0) {
        call agezero_control;
    }
    unset req.http.AgeZero-Off;
    unset req.http.AgeZero-Until;
    if (req.restarts == 0) {  # later the URL may be what your own subs have made of it
        call agezero_name;
    }
    # The lease is read before anything is looked up: who sees it sees all that was purged before it was given.
#+fence
    if (std.real(var.global_get("agezero_issued"), 0.0) > std.time2real(now, 0.0) ||
        std.real(var.global_get("agezero_until"), 0.0) <= std.time2real(now, 0.0)) {
        set req.http.AgeZero-Off = "fenced";
    }
    set req.http.AgeZero-Until = var.global_get("agezero_until");
#-fence
#+spelling
    if (!req.http.AgeZero-Url) {
        set req.http.AgeZero-Off = "spelling";
    }
#-spelling
    if (req.http.AgeZero-Off) {
        set req.hash_always_miss = true;  # waits for nobody; vcl_miss turns it into a pass
    }
}

# The canonical URL as an object keeps it: host/path?query. Where a spelling cannot be brought to it there is none, and the request bypasses the cache.
sub agezero_name {
    unset req.http.AgeZero-Url;
    if (req.http.Host !~ "^(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?::(?!(?:80|443)$)[1-9][0-9]{0,4})?$") {
        set req.http.Host = std.tolower(req.http.Host);
        set req.http.Host = regsub(req.http.Host, "\.(:[0-9]*)?$", "\1");
        set req.http.Host = regsub(req.http.Host, ":0*(?:80|443)?$", "");
        if (req.http.Host !~ "^(?:(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?$") {
            return;
        }
    }
    # Escapes of what needs none (%41) and dot segments: no object is kept under them. Escapes in lower case, and characters that ought to be
    # escaped, are no obstacle: the names of counters and the keys leave them out, and the agent's expressions match either.
    if (req.url ~ "^/[A-Za-z0-9\-_~!$&'()*+,;=:@/?]*$" || (req.url ~ "^/"
        && req.url !~ "^[^?]*/\.\.?(?:[/?]|$)"
        && req.url !~ "%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")) {
        set req.http.AgeZero-Url = req.http.Host + req.url;
    }
}

sub vcl_hit {
    if (req.http.AgeZero-Off) {
        return (pass);
    }
#+fence
    if (std.real(req.http.AgeZero-Until, 0.0) <= std.time2real(now, 0.0)) {  # it waited, and the lease ended meanwhile
        return (pass);
    }
#-fence
    if (!obj.http.AgeZero-Note) {  # stored by a VCL without this file
        set req.http.AgeZero-Gone = purge.hard();
        return (pass);
    }
#+young
    # Its fetch may have compared its counters just before a purge and have been stored just after it. Has there been any since it began?
    if (!str.startswith(obj.http.AgeZero-Note, "moved=" + var.global_get("agezero_moved") + " ")
        && std.real(obj.http.AgeZero-Born, 0.0) + std.real(var.global_get("agezero_young"), 3600.0) > std.time2real(now, 0.0)) {
        call agezero_look_again;
        if (req.http.AgeZero-Gone) {
            set req.http.AgeZero-Gone = purge.hard();
            return (pass);
        }
    }
#-young
}

#+young
# A counter moved since the fetch of this object began: was it for a purge that names it? A URL's counter says so itself. Those of folders and
# hosts, and of all tags, are shared; they are looked at only where one of them has moved since. What was purged a moment ago stands in a few places
# until it is settled; beyond that any may be meant.
sub agezero_look_again {
    unset req.http.AgeZero-Gone;
    if (!str.endswith(obj.http.AgeZero-Note, " url=" + vsthrottle.remaining("u" + regsub("0000" + obj.http.AgeZero-Key, "^.*(.{5})$", "\1"), @COUNTER@))) {
        set req.http.AgeZero-Gone = "url";
    }
    if (!str.contains(obj.http.AgeZero-Note, " wide-moved=" + var.global_get("agezero_wide_moved") + " ")) {
        call agezero_look_wide;
    }
}

sub agezero_look_wide {
    set req.http.AgeZero-P = regsub(obj.http.AgeZero-Note, "^.* p=([0-9]*).*$", "\1");
    set req.http.AgeZero-H = regsub(obj.http.AgeZero-Note, "^.* h=([0-9]*).*$", "\1");
    set req.http.AgeZero-Order = regsub(obj.http.AgeZero-Note, "^.* order=([0-9]*).*$", "\1");
    if (!str.contains(obj.http.AgeZero-Note, " wide=" + vsthrottle.remaining("p" + req.http.AgeZero-P, @COUNTER@)
        + "," + vsthrottle.remaining("h" + req.http.AgeZero-H, @COUNTER@) + "," + vsthrottle.remaining("e", @COUNTER@) + " ")) {
        set req.http.AgeZero-Bones = "=" + regsuball(obj.http.AgeZero-Url, "%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]", "");
@WIDE_PLACES@
        call agezero_look_crowded;
    }
    if (!str.contains(obj.http.AgeZero-Note, " tag= ")
        && !str.contains(obj.http.AgeZero-Note, " tag=" + vsthrottle.remaining("t", @COUNTER@) + " ")) {
        set req.http.AgeZero-Bones = " " + obj.http.X-HashTwo + " ";
@TAG_PLACES@
        call agezero_look_crowded;
    }
    unset req.http.AgeZero-P;
    unset req.http.AgeZero-H;
    unset req.http.AgeZero-Order;
    unset req.http.AgeZero-Bones;
}

sub agezero_look_crowded {
    if (std.real(obj.http.AgeZero-Born, 0.0) < std.real(var.global_get("agezero_crowded"), 0.0) + 1.0) {
        set req.http.AgeZero-Gone = "any";
    }
}
#-young

sub vcl_miss {
    if (req.http.AgeZero-Off) {
        return (pass);
    }
}

sub vcl_deliver {
    unset resp.http.AgeZero-Url;
    unset resp.http.AgeZero-Note;
    unset resp.http.AgeZero-Born;
    unset resp.http.AgeZero-Key;
    unset resp.http.X-HashTwo;
}

sub vcl_pipe {
    unset bereq.http.AgeZero-Url;
    unset bereq.http.AgeZero-Off;
    unset bereq.http.AgeZero-Until;
    unset bereq.http.AgeZero-Gone;
}

# ---------------------------------------------------------------------------------------------------------------------------------
# Fetches

sub vcl_backend_fetch {
    if (bereq.http.AgeZero-Url) {  # not there any more when it's tried again
        var.set("agezero_url", bereq.http.AgeZero-Url);
    }
    unset bereq.http.AgeZero-Url;
    unset bereq.http.AgeZero-Off;
    unset bereq.http.AgeZero-Until;
    unset bereq.http.AgeZero-Gone;
@CANARY@
    if (!bereq.uncacheable) {
#+validators
        # They may be those of an object that was purged a moment ago and still lies about. A 304 would give it a new life.
        unset bereq.http.If-None-Match;
        unset bereq.http.If-Modified-Since;
#-validators
        # The skeleton is the same for each spelling: without escapes and what would have to be escaped.
        var.set("agezero_bones", regsuball(var.get("agezero_url"), "%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]", ""));
        var.set("agezero_key", agezero_hash.key(var.get("agezero_bones")));  # not as an integer: those of vmod var have 32 bits
        var.set("agezero_u", regsub("0000" + var.get("agezero_key"), "^.*(.{5})$", "\1"));
        var.set("agezero_p", regsub("000" + agezero_hash.key(regsub(var.get("agezero_bones"), "^([^/]*/[^/?]*/).*$", "\1")), "^.*(.{4})$", "\1"));
        var.set("agezero_h", regsub("000" + agezero_hash.key(regsub(var.get("agezero_bones"), "^([^/]*/).*$", "\1")), "^.*(.{4})$", "\1"));
        var.set("agezero_moved_seen", var.global_get("agezero_moved"));  # before the counters
        var.set("agezero_wide_moved_seen", var.global_get("agezero_wide_moved"));
        call agezero_count;
        var.set("agezero_seen", var.get("agezero_now"));
        var.set("agezero_wide_seen", var.get("agezero_wide"));
        var.set("agezero_order_seen", var.get("agezero_order"));
        var.set("agezero_soft_seen", var.get("agezero_soft"));
        var.set("agezero_tag_seen", var.get("agezero_tag"));
        var.set("agezero_soft_tag_seen", var.get("agezero_soft_tag"));
    }
}

sub agezero_count {
    var.set("agezero_now", "" + vsthrottle.remaining("u" + var.get("agezero_u"), @COUNTER@));
    var.set("agezero_wide", "" + vsthrottle.remaining("p" + var.get("agezero_p"), @COUNTER@)
        + "," + vsthrottle.remaining("h" + var.get("agezero_h"), @COUNTER@)
        + "," + vsthrottle.remaining("e", @COUNTER@));
    var.set("agezero_order", "" + vsthrottle.remaining("o", @COUNTER@));
    var.set("agezero_soft", "" + vsthrottle.remaining("s" + var.get("agezero_u"), @COUNTER@));
    var.set("agezero_tag", "" + vsthrottle.remaining("t", @COUNTER@));
    var.set("agezero_soft_tag", "" + vsthrottle.remaining("st", @COUNTER@));
}

sub agezero_store {
    # First say that something is about to be stored, then compare: a purge moves the counter first and then looks for this.
    var.set("agezero_announced", "" + vsthrottle.is_denied("w" + var.get("agezero_u"), @RECENT@));
    # One list for xkey, of whatever header the origin names its tags in. xkey reads this header beside its own, which is left to you.
    std.collect(beresp.http.Surrogate-Key, " ");
    std.collect(beresp.http.Cache-Tag, " ");
    std.collect(beresp.http.Cache-Groups, " ");
    std.collect(beresp.http.xkey, " ");
    set beresp.http.X-HashTwo = regsuball(beresp.http.Surrogate-Key + " " + beresp.http.Cache-Tag + " "
        + beresp.http.Cache-Groups + " " + beresp.http.xkey, {"[", \t]+"}, " ");
    var.set("agezero_tagged", "");
    if (beresp.http.X-HashTwo ~ "[^ ]") {
        var.set("agezero_tagged", var.get("agezero_tag_seen"));
    }
    set beresp.http.X-HashTwo = "az" + var.get("agezero_key") + " " + beresp.http.X-HashTwo;
    set beresp.http.AgeZero-Url = var.get("agezero_url");
    set beresp.http.AgeZero-Key = var.get("agezero_key");
    set beresp.http.AgeZero-Born = std.time2real(now, 0.0);
    set beresp.http.AgeZero-Note = "moved=" + var.get("agezero_moved_seen") + " wide-moved=" + var.get("agezero_wide_moved_seen") + " p=" + var.get("agezero_p") + " h=" + var.get("agezero_h") + " order=" + var.get("agezero_order_seen")
        + " wide=" + var.get("agezero_wide_seen") + " tag=" + var.get("agezero_tagged") + " url=" + var.get("agezero_seen");
#+counter
    call agezero_count;
    if (var.get("agezero_now") != var.get("agezero_seen") || var.get("agezero_wide") != var.get("agezero_wide_seen") || var.get("agezero_soft") != var.get("agezero_soft_seen")
        || (var.get("agezero_tagged") != "" && (var.get("agezero_tag") != var.get("agezero_tag_seen")
        || var.get("agezero_soft_tag") != var.get("agezero_soft_tag_seen")))) {
        # Whoever waits for it fetches for himself, at once and together; the next fetch is stored again.
        set beresp.uncacheable = true;
        set beresp.ttl = 1s;
        set beresp.grace = 0s;
        set beresp.keep = 0s;
    }
#-counter
}

sub vcl_backend_response {
    if (!bereq.uncacheable) {
        call agezero_store;
    }
}

sub vcl_backend_error {
    if (!bereq.uncacheable) {
        call agezero_store;
    }
}
