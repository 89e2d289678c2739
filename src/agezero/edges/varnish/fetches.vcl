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
