// Drives imagekit 6, the hand-written Node client. Its host is fixed in its code, so an axios interceptor turns its requests to the service.
'use strict';
const axios = require('axios');
const ImageKit = require('imagekit');
const { answerLines } = require('./lines.cjs');

let base;
axios.interceptors.request.use((config) => ({ ...config, url: config.url.replace('https://api.imagekit.io', base) }));

async function call(request) {
  base = request.base;
  const client = new ImageKit({ privateKey: request.key, publicKey: 'public_unused', urlEndpoint: 'https://example.com' });
  if (request.call === 'purge') return (await client.purgeCache(request.argument)).requestId;
  return (await client.getPurgeCacheStatus(request.argument)).status;
}

// It rejects with the error's body itself, the response beside it, and for a 429 the rate limit's headers as numbers.
function describe(error) {
  const response = error?.$ResponseMetadata;
  if (!response) return {};
  const { message, help, ...limits } = error;
  const numbers = Object.fromEntries(Object.entries(limits).map(([name, value]) => [name.toLowerCase(), String(value)]));
  return { error: 'ErrorBody', status: response.statusCode, message, help, headers: { ...response.headers, ...numbers } };
}

answerLines(call, describe);
