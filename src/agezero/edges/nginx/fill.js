// Judges a fill once, when it comes from the origin: may a shared cache store it, and for how long (RFC 9111 §3, §4.2; RFC 9213)?
// It runs in the filler, the server between the front and the origin, so that a hit never pays for it. The verdict leaves as
//
//   X-Accel-Expires: @<second>       what nginx obeys: fresh through that second; 0: not stored
//   AgeZero-Fill: <born> <lifetime>  born: when its age was 0, ms; lifetime: seconds. Absent: not stored. A third field: see `replace`
//
// born leaves the apparent age out, which RFC 9111 §4.2.3 allows for: it needs the origin's clock.

const lenient = ngx.shared.agezero_lenient;  // what may be stored with stale-if-error; to forget one only costs its answer in an outage

// URLs whose last answer was not to be stored: their requests do not wait for each other's (@alone). To forget one, or to remember one
// too long, only costs time or fetches: what is stored is still found.
const unstored = ngx.shared.agezero_unstored;

const MAX_S = 2147483648;
const HEURISTIC_MAX_S = 86400;
const VARY_BYTES_MAX = 128;  // nginx does not store a longer one
const HEURISTIC = { 200: true, 203: true, 204: true, 300: true, 301: true, 308: true, 404: true, 405: true, 410: true, 414: true, 501: true };
const ERRORS = { 500: true, 502: true, 503: true, 504: true };
const NEVER = { 206: true, 304: true };

const DIRECTIVE = /([^\s,;="]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?/g;
// A Structured Fields dictionary (RFC 8941 §3.2), whole and by member.
const TARGETED = /^ *[a-z*][a-z0-9_\-.*]*(?:=(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[^"\\]|\\.)*"|\?[01]|:[A-Za-z0-9+\/=]*:|[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:\/]*))?(?:; *[a-z*][a-z0-9_\-.*]*(?:=(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[^"\\]|\\.)*"|\?[01]|:[A-Za-z0-9+\/=]*:|[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:\/]*))?)*(?:[ \t]*,[ \t]*[a-z*][a-z0-9_\-.*]*(?:=(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[^"\\]|\\.)*"|\?[01]|:[A-Za-z0-9+\/=]*:|[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:\/]*))?(?:; *[a-z*][a-z0-9_\-.*]*(?:=(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[^"\\]|\\.)*"|\?[01]|:[A-Za-z0-9+\/=]*:|[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:\/]*))?)*)* *$/;
const TARGETED_MEMBER = /([a-z*][a-z0-9_\-.*]*)(?:=((?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[^"\\]|\\.)*"|\?[01]|:[A-Za-z0-9+\/=]*:|[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:\/]*)))?(?:; *[a-z*][a-z0-9_\-.*]*(?:=(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[^"\\]|\\.)*"|\?[01]|:[A-Za-z0-9+\/=]*:|[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:\/]*))?)*(?:[ \t]*,[ \t]*|$)/g;
const TAME = /^(?:(?:public|immutable|no-transform|must-revalidate|proxy-revalidate|(?:s-maxage|max-age)=[0-9]*[1-9][0-9]*|stale-(?:while-revalidate|if-error)=[0-9]+)(?:, *|$))*$/i;
const HTTP_DATE = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$/;

function judge(r) {
    if (!r.headersIn['AgeZero-Cache']) {
        return;  // asked for without the cache (@plain): the answer goes through as it is
    }
    if (ERRORS[r.status] && /^EXPIRED/.test(r.headersIn['AgeZero-Cache']) && lenient.has(name(r))) {
        // The stored response may allow stale-if-error (RFC 5861 §4). nginx does as it says when a fetch breaks off, not on a 5xx: break it off.
        throw new Error('the origin failed, with ' + r.status);
    }
    let verdict = null;
    try {
        verdict = assess(r);
    } catch (error) {
        r.error('agezero: a response could not be judged, so it is not stored: ' + error.message);
    }
    if (verdict === null) {
        r.headersOut['X-Accel-Expires'] = '0';
        r.headersOut['X-Accel-Buffering'] = 'no';  // not stored: hand every byte on as it comes
        unstored.set(name(r), 1);
        return;
    }
    unstored.delete(name(r));
    r.headersOut['X-Accel-Expires'] = '@' + verdict.until_s;
    if (verdict.error_s + verdict.while_s > 0) {
        lenient.set(name(r), 1);
    }
    const replaced = replace(r, verdict);
    r.headersOut['AgeZero-Fill'] = verdict.born_ms + ' ' + verdict.lifetime_s + (replaced ? ' 1' : '');
}

// "1": this request holds the lock for a fetch that is of no use to those who wait for it. It is sent on to @alone, which lets go of the lock: who
// came before this was known goes on when nginx looks next (every 500 ms), and not one fetch after the other.
function inVain(r) {
    return r.headersIn['AgeZero-Cache'] === 'MISS' && unstored.has(name(r)) ? '1' : '';
}

// The front's $agezero_url, where the host is spelled as its key has it.
function name(r) {
    return r.headersIn['X-Forwarded-Host'] + r.variables.request_uri;
}

// null: not to be stored.
function assess(r) {
    const headers = r.headersOut;
    const vary = joined(headers['Vary']);
    if (NEVER[r.status] || r.status < 200 || headers['Set-Cookie'] || vary.indexOf('*') >= 0 || vary.length > VARY_BYTES_MAX) {
        return null;
    }
    const now_ms = Date.now();
    const rules = governing(headers);
    const has = rules.directives;
    if (has['no-store'] || has['private'] || has['no-cache']) {
        return null;
    }
    const born_ms = Math.round(now_ms - Number(r.variables.request_time) * 1000 - seconds(joined(headers['Age']), 0) * 1000);
    const lifetime_s = lifetime(has, rules.targeted, headers, r.status, now_ms);
    const firm = has['must-revalidate'] || has['proxy-revalidate'];
    const while_s = firm ? 0 : seconds(has['stale-while-revalidate'], 0);
    const error_s = firm ? 0 : seconds(has['stale-if-error'], 0);
    // nginx calls a response fresh through the second it is given, so that second is the one before the last begun.
    const until_s = Math.max(1, Math.floor(born_ms / 1000 + lifetime_s) - 1);
    const useful = lifetime_s >= 0 && now_ms / 1000 < until_s + 1 + Math.max(while_s, error_s);
    return useful ? { born_ms, lifetime_s, until_s, while_s, error_s, firm, targeted: rules.targeted } : null;
}

// CDN-Cache-Control governs alone where it is there and well-formed (RFC 9213 §2.2).
function governing(headers) {
    const targeted = joined(headers['CDN-Cache-Control']);
    if (TARGETED.test(targeted)) {
        return { targeted: true, directives: targetedDirectives(targeted) };
    }
    return { targeted: false, directives: directives(joined(headers['Cache-Control'])) };
}

function directives(value) {
    const found = {};
    let match;
    DIRECTIVE.lastIndex = 0;
    while ((match = DIRECTIVE.exec(value)) !== null) {
        const name = match[1].toLowerCase();
        if (found[name] === undefined) {  // RFC 9111 §4.2.1: of two, the first
            found[name] = argument(match);
        }
    }
    return found;
}

function argument(match) {
    if (match[2] !== undefined) {
        return match[2] || ' ';
    }
    return match[3] !== undefined ? match[3] || ' ' : ' ';
}

function targetedDirectives(value) {
    const found = {};
    let match;
    TARGETED_MEMBER.lastIndex = 0;
    while ((match = TARGETED_MEMBER.exec(value)) !== null && match[0] !== '') {
        if (match[2] === '?0') {
            delete found[match[1]];
        } else {
            found[match[1]] = match[2] || ' ';
        }
    }
    return found;
}

// Seconds of freshness; below zero: none, and none may be assumed.
function lifetime(has, targeted, headers, status, now_ms) {
    const given = has['s-maxage'] || has['max-age'];
    if (given !== undefined) {
        return seconds(given, 0);
    }
    const date_ms = httpDate(joined(headers['Date']));
    const sent_ms = isNaN(date_ms) ? now_ms : date_ms;
    if (!targeted && headers['Expires'] !== undefined) {
        const expires_ms = httpDate(joined(headers['Expires']));
        return isNaN(expires_ms) ? 0 : Math.min(MAX_S, Math.max(0, (expires_ms - sent_ms) / 1000));
    }
    const modified_ms = httpDate(joined(headers['Last-Modified']));
    if (!HEURISTIC[status] || isNaN(modified_ms) || modified_ms >= sent_ms) {
        return -1;
    }
    return Math.floor(Math.min(HEURISTIC_MAX_S, (sent_ms - modified_ms) / 10000));
}

// nginx reads Cache-Control too, the stale-… directives nowhere else, and other things in it than RFC 9111 does. Unless the origin's is of
// the plain kind that both read alike, nginx is given what counts, and the origin's own value travels beside it. True where that was necessary.
function replace(r, verdict) {
    const original = joined(r.headersOut['Cache-Control']);
    const stale = /stale-/i.test(original);
    if (TAME.test(original) && !(verdict.firm && stale) && !verdict.targeted) {
        return false;
    }
    r.headersOut['AgeZero-Cache-Control'] = original;
    r.headersOut['Cache-Control'] = 'public'
        + (verdict.while_s ? ', stale-while-revalidate=' + verdict.while_s : '')
        + (verdict.error_s ? ', stale-if-error=' + verdict.error_s : '');
    return true;
}

// A malformed number of seconds counts as none (RFC 9111 §4.2.1: stale).
function seconds(value, absent) {
    if (value === undefined || value === '') {
        return absent;
    }
    return /^[0-9]+$/.test(value) ? Math.min(MAX_S, Number(value)) : 0;
}

function httpDate(value) {
    return HTTP_DATE.test(value) ? Date.parse(value) : NaN;
}

function joined(value) {
    return value === undefined ? '' : Array.isArray(value) ? value.join(', ') : value;
}

export default { inVain, judge };
