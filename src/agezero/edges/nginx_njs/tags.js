// Which tags the stored responses of an object have, in a dictionary that nginx's workers share; for locations with agezero-tagged.conf.
//
// What is recorded, and why that forgets no purge, stands in ../nginx_lua/agezero_tags.lua; it is the same here. What differs: `born` comes from the
// agent with the table (control.js), and the mark that there is room is a key that is deleted once there is none, as that takes no room.

import edge from 'edge.js';

const table = ngx.shared.agezero_table;
const records = ngx.shared.agezero_tags;

const OBJECT_BYTES_MAX = 4096;

// The first part of the cache key: "<epoch>t"; "" where the cache must stay out of it. Asked for once in each location, where the object is named.
function epoch(r) {
    const name = isSubrequest(r) ? '' : nameOf(r);
    const place = name && edge.found(r, r.variables.agezero_url);
    if (!place) {
        return '';
    }
    const newest = edge.newestIn(place[2].split(','));
    const any = table.get('tags') || 0;
    return (any > newest ? recalled(records.get(name), newest, any) : newest) + 't';
}

// A subrequest (SSI, auth_request, mirror) shares its variables with the request that it is for, and with others beside it: whose object
// $agezero_object names, nobody can tell by the time it matters. It came on no connection, so nothing of it was read.
function isSubrequest(r) {
    return r.variables.request_length === '0';
}

// Of the object, in this table. Bytes that are not ASCII may look alike in a string, so two objects could share a record.
function nameOf(r) {
    const object = r.variables.agezero_object;
    if (!object || object.length > OBJECT_BYTES_MAX) {
        return '';
    }
    const plain = /^[\x20-\x7e]*$/.test(object);
    return (table.get('origin') || 0) + (plain ? ' ' + object : '\t' + r.rawVariables.agezero_object.toString('hex'));
}

function recalled(record, newest, any) {
    if (!record) {
        return any;
    }
    const parts = record.split('|');
    newest = Math.max(newest, Number(parts[0]));
    if (parts[1] === '*') {
        return Math.max(newest, any);
    }
    return parts[1].split(',').reduce((so_far, hash) => Math.max(so_far, purged(hash)), newest);
}

// The newest purge of the tag with this hash. A number above that of all tags is of something else in its slot.
function purged(hash) {
    return hash === '' ? 0 : Math.min(table.get(edge.slotOfHash(hash)) || 0, table.get('tags') || 0);
}

// "yes" where the response that has just come may be stored: its tags are recorded, and none of them was purged meanwhile. Anything else: not stored.
function recorded(r) {
    const HASHES_MAX = 64;
    const number = /^(\d+)t$/.exec(r.variables.agezero_tagged_epoch);
    if (number === null) {
        return 'no';
    }
    const hashes = hashesOf(r.variables, HASHES_MAX);
    if (!record(nameOf(r), Number(number[1]), hashes, HASHES_MAX)) {
        return 'no';
    }
    return (hashes || []).every((hash) => !(purged(hash) > Number(number[1]))) ? 'yes' : 'no';
}

// null: too many, or an nginx that shows one line of a header only.
function hashesOf(variables, hashes_max) {
    if (!(ngx.version_number >= 1023000)) {
        return null;
    }
    const values = [
        variables.upstream_http_surrogate_key,
        variables.upstream_http_cache_tag,
        variables.upstream_http_xkey,
        variables.upstream_http_cache_groups,
    ];
    const tags = values.map((value) => value || '').join(' ').split(/[\s,"]+/).filter((tag) => tag !== '');
    const hashes = tags.map(edge.tagHash).filter((hash, i, all) => all.indexOf(hash) === i);
    return hashes.length <= hashes_max ? hashes : null;
}

// False where another worker is at it: one at a time, and the other one's response is not stored.
function record(name, number, hashes, hashes_max) {
    const lock = '!' + name;
    let locked;
    try {
        locked = records.add(lock, '1');
    } catch (error) {
        forget(name);
        return true;
    }
    if (locked) {
        try {
            change(name, number, hashes, hashes_max);
        } finally {
            records.delete(lock);
        }
    }
    return locked;
}

function change(name, number, hashes, hashes_max) {
    const known = records.get(name);
    const full = !records.has('room');
    let floor = 0, list = '';
    if (known) {
        const parts = known.split('|');
        floor = Number(parts[0]);
        list = parts[1];
    } else {
        const born = records.get('born ' + /^\d+/.exec(name)[0]);
        if (full || born === undefined || number <= Number(born)) {
            return;  // nothing is known of it, as before
        }
    }
    if (number < floor) {
        return;  // it is stored where nobody looks any more
    }
    const changed = number + '|' + union(number > floor ? '' : list, hashes, hashes_max);
    if (changed !== known) {
        put(name, full ? number + '|*' : changed);
    }
    if (!full && !records.has('room')) {
        put(name, number + '|*');
    }
}

function union(list, hashes, hashes_max) {
    if (list === '*' || hashes === null) {
        return '*';
    }
    const all = list === '' ? [] : list.split(',');
    hashes.forEach((hash) => all.includes(String(hash)) || all.push(String(hash)));
    return all.length <= hashes_max ? all.join(',') : '*';
}

function put(name, value) {
    try {
        records.set(name, value);
    } catch (error) {
        forget(name);
    }
}

// There is no room: nothing is known of it any more, and no record of it begins anew.
function forget(name) {
    records.delete('room');
    records.delete(name);
}

export default { epoch, recorded };
