# ---------------------------------------------------------------------------------------------------------------------------------
# The agent's listener. Every answer carries the mark "AgeZero: 1"; a 200 without it comes from somewhere else and proves nothing.

sub agezero_control {
    if (req.method != "AGEZERO") {
        return (synth(405, "the listener of the agent"));
    }
    if (req.url == "/state") {
        return (synth(200));
    }
#+token
    if (std.integer(req.http.AgeZero-Token, -1) < std.integer(var.global_get("agezero_token"), 0)) {
        return (synth(409, "a newer agent has taken over"));
    }
#-token
#+boot
    if (req.http.AgeZero-Boot != var.global_get("agezero_boot")) {
        return (synth(409, "the cache has restarted"));
    }
#-boot
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

