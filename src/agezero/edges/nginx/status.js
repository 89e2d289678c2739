// What an answer says about the cache: Age (RFC 9111 §5.1) and Cache-Status (RFC 9211); and what it does to it: an unsafe
// method that succeeded invalidates its URL (RFC 9111 §4.4) before the client can see that it succeeded.

import edge from 'edge.js';
import settings from 'settings.js';

// The header filter of the location with a cache.
function cached(r) {
    const variables = r.variables;
    const fill = variables.upstream_http_agezero_fill;  // see fill.js; absent: not stored
    const outcome = variables.upstream_cache_status;
    let told = '';
    if (fill) {
        const fields = fill.split(' ');
        const age_ms = Math.max(0, Date.now() - Number(fields[0]));
        r.headersOut['Age'] = String(Math.floor(age_ms / 1000));
        if (fields[2]) {
            restoreCacheControl(r);
        }
        told = '; hit; ttl=' + Math.floor(Number(fields[1]) - age_ms / 1000);
    }
    if (outcome !== 'HIT') {
        told = forwarded(variables, outcome, fill) || told;
    }
    append(r, told);
}

// A stale answer given while it is updated behind the client's back went nowhere: it stays a hit, its ttl is below zero.
function forwarded(variables, outcome, fill) {
    const upstream = lastOf(variables.upstream_status);
    if (outcome === 'UPDATING' || outcome === 'STALE' && !upstream) {
        return '';
    }
    const names = { EXPIRED: 'stale', BYPASS: 'bypass' };
    if (outcome === 'STALE') {
        return '; fwd=stale; detail=stale-if-error';
    }
    const detail = variables.agezero_alone && !fill ? '; detail=uncacheable' : '';
    const how = '; fwd=' + (names[outcome] || 'miss') + detail + (upstream ? '; fwd-status=' + upstream : '');
    return how + (fill && outcome !== 'BYPASS' ? '; stored' : '');
}

// "204 : 200" after the filler has sent the request on to @alone.
function lastOf(statuses) {
    return statuses && statuses.slice(statuses.lastIndexOf(' ') + 1);
}

// The header filter of the location without a cache.
function plain(r) {
    if (!/^(?:GET|HEAD|OPTIONS|TRACE)$/.test(r.method) && r.status >= 200 && r.status < 400) {
        invalidate(r);
    }
    const status = r.variables.upstream_status;
    append(r, '; fwd=' + reason(r) + (status ? '; fwd-status=' + status : ''));
}

function reason(r) {
    if (r.method !== 'GET' && r.method !== 'HEAD') {
        return 'method';
    }
    if (r.variables.http_upgrade) {
        return 'bypass; detail=upgrade';
    }
    if (r.variables.http_authorization) {
        return 'bypass; detail=authorization';
    }
    return edge.leased(Date.now()) ? 'bypass; detail=url' : 'bypass; detail=fenced';
}

// An upstream cache's own report comes first (RFC 9211 §2: the list begins with the cache nearest to the origin).
function append(r, told) {
    const before = r.headersOut['Cache-Status'];
    r.headersOut['Cache-Status'] = (before ? before + ', ' : '') + settings.name + told;
}

function restoreCacheControl(r) {
    const original = r.variables.upstream_http_agezero_cache_control;
    if (original) {
        r.headersOut['Cache-Control'] = original;
    } else {
        delete r.headersOut['Cache-Control'];
    }
}

// Throws where the invalidation could be lost: nginx then closes the connection, and the client has not been told of a success.
function invalidate(r) {
    const url = edge.canonicalUrl(r);
    if (url === '') {
        return;  // never cached
    }
    const local = ngx.shared.agezero_local;
    const slot = edge.urlSlot(url);
    if (!local.get(slot)) {
        mark(slot);
    }
    local.incr(slot, 1, 0);
}

// Make durable that the slot was touched. A missing file says more: everything on disk is void (marks.py), so removing it is as good.
function mark(slot) {
    const fs = require('fs');
    const MARKS_AT = 8;  // bytes before the first mark, see marks.py
    try {
        const file = fs.openSync(settings.marks, 'r+');
        try {
            fs.writeSync(file, Buffer.from('\x01'), 0, 1, MARKS_AT + Number(slot));
        } finally {
            fs.closeSync(file);
        }
    } catch (error) {
        if (error.code === 'ENOENT') {
            return;
        }
        forsake(error);
    }
}

function forsake(error) {
    ngx.log(ngx.ERR, 'agezero: cannot write ' + settings.marks + ': ' + error.message);
    try {
        require('fs').unlinkSync(settings.marks);
    } catch (worse) {
        ngx.shared.agezero_text.set('unsaved', '1');
        ngx.shared.agezero_table.set('until', 0);
        ngx.shared.agezero_text.delete('boot');
    }
}

export default { cached, plain };
