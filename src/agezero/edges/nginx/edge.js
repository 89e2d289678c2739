// The hit path of the embedded edge, and of an nginx of one's own: what a request is called in the cache.
//
// `key` runs once a request. It gives "<epoch>.<local>|<authority>", the part of the cache key before the request target, or "" where
// the cache must stay out of it: no lease, a URL that has no canonical form, any error. nginx sends those to a location without a cache.
// `epoch` is the same for an nginx of one's own (../nginx_njs), which has a key already: the epoch alone.
//
// Canonical form, hash and look-up stand a second time in core/canonical.py and core/epochs.py; tests/contract/test_edge_js.py
// holds the two together. All arithmetic is exact in a double: 32 bits, products below 2^53.

import settings from 'settings.js';

const table = ngx.shared.agezero_table;  // slot -> newest purge; also `everything`, `token`, `issued`, `until`
const local = ngx.shared.agezero_local;  // slot of a URL -> how often an unsafe method changed it
const text = ngx.shared.agezero_text;    // `boot`, `loaded`, `gates`, `unsaved`
const places = ngx.shared.agezero_places;  // URL as it was spelled -> where to look for its purges, see `placed`
const unstored = ngx.shared.agezero_unstored;  // see fill.js

const URL_BYTES_MAX = 8192;
const PLACE_BYTES_MAX = 2048;
const SEED = 0x2545F491;
const FACTOR = 1000003;
const URL = 0x1B873593;
const PREFIX = 0x4CF5AD43;
const HOST = 0x38495AB5;
const TAG = 0x2C1B3C6D;
const SLASH = 47;
const QUESTION = 63;

// nginx runs this top level once for every request, so only what every request needs stands here; the rest is inside its function.

function key(r) {
    const raw = r.variables.agezero_url;
    const place = found(r, raw);
    if (place === null) {
        return '';
    }
    if (unstored.has(raw)) {
        r.variables.agezero_alone = ' alone';
    }
    return epochs(place[2]) + '|' + place[1];
}

// Which tags an object has is not known here, so the newest purge of any tag counts.
function epoch(r) {
    const place = found(r, r.variables.agezero_url);
    return place === null ? '' : String(Math.max(table.get('tags') || 0, newestIn(place[2].split(','))));
}

// null: the cache must stay out of it.
function found(r, raw) {
    // The lease is read before the table: who saw the lease sees all that was loaded before it was given.
    if (settings.lease_checked && !leased(Date.now())) {
        return null;
    }
    const gates = text.get('gates') || '';  // before `everything`, see control.js
    const known = places.get(raw);
    const place = known ? known.split('|') : ['-'];
    return place[0] === gates ? place : placed(r, raw, gates);
}

// What has to be looked up for a URL, [gates, authority, slots], remembered under its spelling. It follows from the URL and the gates alone: to forget
// it, or to remember it for ever, changes nothing. null: it has no canonical form.
function placed(r, raw, gates) {
    const url = canonicalUrl(r);
    if (url === '') {
        return null;
    }
    const authority = url.slice(0, url.indexOf('/'));
    const place = [gates, authority, slotsOf(url, gates)];
    // Bytes that are not UTF-8 look alike in a string, so two URLs could share an entry.
    if (raw.length < PLACE_BYTES_MAX && /^[\x21-\x7e]*$/.test(raw)) {
        places.set(raw, place.join('|'));
    }
    return place;
}

// Two wall-clock times, so that a clock that jumps back fences too. A missing one compares as false.
function leased(now_ms) {
    return now_ms < table.get('until') && table.get('issued') <= now_ms;
}

function canonicalUrl(r) {
    const url = r.variables.agezero_url;
    // A URL that is its own canonical form; anything else takes the slow path, so this may be too strict but never too lax.
    const canonical = /^(?=[^\/]{1,200}\/)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*(?::(?!80\/|443\/)(?:[1-9][0-9]{1,3}|[1-5][0-9]{4}))?(?:\/(?!\.)[A-Za-z0-9\-._~!$&'()*+,;=:@]*)+(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@\/?]*)?$/;
    if (url.length < URL_BYTES_MAX && canonical.test(url)) {
        return url;
    }
    const target = r.rawVariables.request_uri;
    const authority = canonicalAuthority(r.variables.agezero_authority);
    // An origin may or may not cut a fragment off; what such a request names is unknown, so it is not cached.
    if (authority === '' || target[0] !== SLASH || target.includes('#')) {
        return '';
    }
    const path = canonicalTarget(target);
    return path && authority + path;
}

// "" for what no URL can name. International names arrive here in ASCII, or are refused.
function canonicalAuthority(given) {
    const match = /^(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::([0-9]{0,5}))?$/.exec(given);
    if (match === null || !/^[\x00-\x7f]*$/.test(given)) {
        return '';
    }
    const name = /^(?:\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*)$/;
    const host = match[1].toLowerCase().replace(/\.$/, '');
    const port = (match[2] || '').replace(/^0+/, '');
    if (!name.test(host) || host.length > 255 || Number(port) > 65535) {
        return '';
    }
    return port === '' || port === '80' || port === '443' ? host : host + ':' + port;
}

// `raw`: the bytes of a path with its query. "" where that is too long to be named.
function canonicalTarget(raw) {
    if (raw.length > URL_BYTES_MAX) {
        return '';
    }
    const plain = /[A-Za-z0-9\-._~!$&'()*+,;=:@\/?]/;
    const unreserved = /[A-Za-z0-9\-._~]/;
    const parts = [];
    for (let i = 0; i < raw.length; i++) {
        const byte = raw[i];
        const value = byte === 37 ? hexPair(raw, i + 1) : -1;
        parts.push(value < 0 ? written(byte, plain) : written(value, unreserved));
        i += value < 0 ? 0 : 2;
    }
    const encoded = parts.join('');
    const mark = encoded.indexOf('?');
    const result = mark < 0 ? withoutDotSegments(encoded) : withoutDotSegments(encoded.slice(0, mark)) + encoded.slice(mark);
    return result.length > URL_BYTES_MAX ? '' : result;
}

// A byte as itself where it is one of `allowed`, else percent-encoded.
function written(byte, allowed) {
    const char = String.fromCharCode(byte);
    if (byte < 128 && allowed.test(char)) {
        return char;
    }
    return (byte < 16 ? '%0' : '%') + byte.toString(16).toUpperCase();
}

function hexPair(raw, at) {
    const high = hexDigit(raw[at]);
    const low = hexDigit(raw[at + 1]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

function hexDigit(byte) {
    if (byte >= 48 && byte <= 57) {
        return byte - 48;
    }
    const lower = byte | 32;
    return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

function withoutDotSegments(path) {
    if (path.indexOf('/.') < 0) {
        return path || '/';
    }
    const segments = path.split('/').slice(1);
    const kept = [];
    for (let i = 0; i < segments.length; i++) {
        if (segments[i] === '..') {
            kept.pop();
        } else if (segments[i] !== '.') {
            kept.push(segments[i]);
        }
    }
    const last = segments[segments.length - 1];
    if (last === '.' || last === '..') {
        kept.push('');
    }
    return '/' + kept.join('/');
}

function slotOf(state, kind) {
    return mixed(state, kind) & (settings.slots - 1);
}

function mixed(state, kind) {
    let bits = (state ^ kind) >>> 0;
    bits = ((bits ^ bits >>> 15) >>> 0) * FACTOR >>> 0;
    return bits ^ bits >>> 13;
}

// What is kept of a tag: all 32 bits, of which a table takes as many as it has slots.
function tagHash(tag) {
    return mixed(hashOf(tag), TAG);
}

function slotOfHash(hash) {
    return String(hash & (settings.slots - 1));
}

// ^ leaves 32 bits with a sign; the sign is taken off only at the end, where it begins to matter (slotOf).
function hashOf(url) {
    const bytes = Buffer.from(url);  // indexing it is twice as fast as charCodeAt
    const length = bytes.length;
    let state = SEED;
    for (let i = 0; i < length; i++) {
        state = state * FACTOR ^ bytes[i];
    }
    return state;
}

function urlSlot(url) {
    return String(slotOf(hashOf(url), URL));
}

// "<newest purge that matches>.<how often it was changed through here>"
function epochs(slots) {
    const list = slots.split(',');
    return newestIn(list) + '.' + (local.get(list[0]) || 0);
}

function newestIn(list) {
    let newest = table.get('everything') || 0;
    for (let i = 0; i < list.length; i++) {
        const seq = table.get(list[i]);
        newest = seq > newest ? seq : newest;
    }
    return newest;
}

// The slot of the URL, then those of its prefixes and its host that purges may have touched, found in one pass over it.
// gates: "" or "<host 0|1>,<slash 0|1>,<length>,<length>…", ascending.
function slotsOf(url, gates) {
    if (gates === '') {
        return urlSlot(url);
    }
    const lengths = gates.length > 3 ? gates.slice(4).split(',').map(Number) : [];
    const bytes = Buffer.from(url);
    const length = bytes.length;
    const authority = url.indexOf('/');
    const wider = [];
    let slash = gates[2] === '1';  // in the path only
    let state = SEED, next = 0, i = 0;
    const look = (kind) => wider.push(slotOf(state, kind));
    for (; i < authority; i++) {
        state = state * FACTOR ^ bytes[i];
    }
    if (gates[0] === '1') {
        look(HOST);
    }
    for (; lengths[next] <= authority; next++) {
        look(PREFIX);
    }
    let listed = lengths[next];
    for (; i < length;) {
        const byte = bytes[i++];
        state = state * FACTOR ^ byte;
        if (byte === QUESTION) {
            slash = false;
        }
        if (listed === i) {
            listed = lengths[++next];
            look(PREFIX);
        } else if (byte === SLASH && slash) {
            look(PREFIX);
        }
    }
    return [slotOf(state, URL)].concat(wider).join(',');
}

// What was really looked up for a URL, for the contract test with core/epochs.py.
function newest(url) {
    return Math.max(table.get('tags') || 0, newestIn(slotsOf(url, text.get('gates') || '').split(',')));
}

export default {
    epoch, key, found, newestIn, leased, canonicalAuthority, canonicalTarget, canonicalUrl, newest, slotOfHash, tagHash, urlSlot,
};
