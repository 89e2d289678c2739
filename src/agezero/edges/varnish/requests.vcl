# ---------------------------------------------------------------------------------------------------------------------------------
# Requests

sub vcl_recv {
    if (local.socket == "agezero" && req.esi_level == 0) {
        call agezero_control;
    }
    unset req.http.AgeZero-Off;
    unset req.http.AgeZero-Until;
    if (req.restarts == 0) {  # later the URL may be what your own subs have made of it
#+named
        if (req.http.AgeZero-Url && req.esi_level == 0) {  # a visitor's: std.rollback would bring it back, and then it were the object's name
            return (synth(400));
        }
#-named
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
    # No object is kept under escapes of what needs none (%41), under dot segments, or under a fragment, which an origin may cut off or not. Escapes in
    # lower case, and characters that ought to be escaped, are no obstacle: the names of counters and the keys leave them out, and the agent's
    # expressions match either.
    if (req.url ~ "^/[A-Za-z0-9\-_~!$&'()*+,;=:@/?]*$" || (req.url ~ "^/[^#]*$"
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
#+foreign
    if (!obj.http.AgeZero-Note) {  # stored by a VCL without this file
        set req.http.AgeZero-Gone = purge.hard();
        return (pass);
    }
#-foreign
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

