// The agent's way in, on a unix socket of its own: JSON in, JSON out. Every answer carries `agezero`, the version of this protocol:
// a 200 that lacks it comes from somebody else and proves nothing.
//
//   GET  /state    {}                                              boot, loaded, token, issued, until, unsaved, slots
//   POST /load     {token, boot}                                   begin to load the table: the lease ends
//   POST /write    {token, everything, tags, gates, writes, local} raise numbers; nothing is ever lowered
//   POST /loaded   {token, boot, origin, born}                     the table is complete; origin, born: for tags.js
//   POST /lease    {token, issued, until}                          serve from the store while issued <= now < until (ms)
//   POST /fence    {token}                                          the lease ends
//
// `boot` is made up when nobody knows one: the table is as old as it. Any call may name the boot that it means. 409: a newer agent holds the
// fencing token, or the table is not loaded, or not for this boot, or another call is under way.

import fs from 'fs';
import settings from 'settings.js';

const table = ngx.shared.agezero_table;
const local = ngx.shared.agezero_local;
const text = ngx.shared.agezero_text;

const PROTOCOL = 1;

const records = ngx.shared.agezero_tags;  // only where tags are recorded

// Of a part in each zone: a reload that gives one of them another size brings that one back empty.
function boot() {
    if (!text.has('boot')) {
        text.add('boot', Date.now().toString(16) + '-' + process.pid.toString(16) + '-' + Math.random().toString(16).slice(2));
    }
    if (!table.has('born')) {
        table.add('born', Math.floor(Math.random() * 2 ** 52) + 1);
    }
    if (records && !records.has('made')) {
        records.add('made', Math.random().toString(16).slice(2));
    }
    return text.get('boot') + '-' + table.get('born').toString(16) + (records ? '-' + records.get('made') : '');
}

function state() {
    return {
        boot: boot(),
        loaded: text.get('loaded') === boot(),
        token: table.get('token') || 0,
        issued: table.get('issued') || 0,
        until: table.get('until') || 0,
        unsaved: text.get('unsaved') === '1',
        slots: settings.slots,
    };
}

function load(body) {
    fence();
    text.delete('loaded');
    return expectBoot(body);
}

function write(body) {
    // Each step may only add to what a look-up finds: gates that close are outdated by `everything`, gates that open come before their slots.
    const known = table.get('everything') || 0;
    raise(table, 'everything', body.everything);
    if (body.everything >= known) {
        text.set('gates', body.everything > known ? body.gates : joined(body.gates, text.get('gates')));
    }
    raise(table, 'tags', body.tags || 0);
    body.writes.forEach((pair) => raise(table, String(pair[0]), pair[1]));
    body.local.forEach((pair) => raise(local, String(pair[0]), pair[1]));
    return { written: body.writes.length + body.local.length };
}

// All gates that stand open in either: calls may overtake each other, and under one `everything` no gate closes.
function joined(one, other) {
    if (!one || !other || one === other) {
        return one || other || '';
    }
    const left = one.split(',').map(Number);
    const right = other.split(',').map(Number);
    const lengths = left.slice(2).concat(right.slice(2)).sort((a, b) => a - b);
    const distinct = lengths.filter((length, i) => i === 0 || length !== lengths[i - 1]);
    return [left[0] | right[0], left[1] | right[1]].concat(distinct).join(',');
}

function raise(zone, slot, number) {
    if (!(zone.get(slot) >= number)) {
        zone.set(slot, number);
    }
}

function loaded(body) {
    const answer = expectBoot(body);
    if (records && body.origin) {
        beginRecords(body);
    }
    text.delete('unsaved');
    text.set('loaded', boot());
    return answer;
}

// `born`: no key of what was stored before is higher. Numbers of two tables do not compare, so each origin has its own.
function beginRecords(body) {
    if (!records.has('begun')) {
        records.add('room', '1');
        records.add('begun', '1');
    }
    table.set('origin', body.origin);
    records.add('born ' + body.origin, String(body.born));
}

function expectBoot(body) {
    if (body.boot !== boot()) {
        throw refusal('this cache has started again; expected its boot id ' + boot());
    }
    return {};
}

function lease(body) {
    if (text.get('loaded') !== boot() || text.get('unsaved') === '1') {
        // Who asks for a lease takes the table for loaded; a /load that was given up arrived late. With a new boot id it is loaded once more.
        text.delete('boot');
        throw refusal('the purge table is not loaded');
    }
    // The later time last: between the two the lease is the old one or none.
    table.set('issued', body.issued);
    table.set('until', body.until);
    return {};
}

function fence() {
    table.set('until', 0);
    return {};
}

function refusal(message) {
    const error = new Error(message);
    error.refused = true;
    return error;
}

const CALLS = { '/load': load, '/write': write, '/loaded': loaded, '/lease': lease, '/fence': fence };

function handle(r) {
    try {
        reply(r, 200, dispatch(r));
    } catch (error) {
        reply(r, error.refused ? 409 : 500, { error: error.message });
    }
}

function dispatch(r) {
    if (r.method === 'GET' && r.uri === '/state') {
        return state();
    }
    const call = CALLS[r.uri];
    if (r.method !== 'POST' || call === undefined) {
        throw refusal('no such call: ' + r.method + ' ' + r.uri);
    }
    const body = JSON.parse(r.requestText);
    return alone(() => {
        admit(body.token);
        if (body.boot) {
            expectBoot(body);
        }
        return call(body);
    });
}

// Raising a number is a read and a write, and two of nginx's processes could lower what the other has raised. So one call at a time:
// the agent keeps to that, but a call that it has given up may still be on its way, in a process that stands still. Only a dead one is passed over.
function alone(call) {
    const holder = text.get('writer');
    if (holder && !fs.existsSync('/proc/' + holder)) {
        text.delete('writer');
    }
    if (!text.add('writer', String(process.pid))) {
        throw refusal('another call is under way');
    }
    try {
        return call();
    } finally {
        text.delete('writer');
    }
}

function admit(token) {
    const newest = table.get('token') || 0;
    if (!(token >= newest)) {
        throw refusal('the fencing token ' + token + ' is outdated; the newest is ' + newest);
    }
    raise(table, 'token', token);
}

function reply(r, status, answer) {
    answer.agezero = PROTOCOL;
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify(answer));
}

export default { handle };
