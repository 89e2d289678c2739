// Drives @imagekit/nodejs 7, the generated Node client.
'use strict';
const ImageKit = require('@imagekit/nodejs').default;
const { answerLines } = require('./lines.cjs');

async function call({ base, key, call, argument, retries }) {
  // It refuses an empty key itself; leaving the header out is its way to send none.
  const auth = key ? { privateKey: key } : { privateKey: 'private_unused', defaultHeaders: { Authorization: null } };
  const client = new ImageKit({ ...auth, baseURL: base, maxRetries: retries });
  const invalidation = client.cache.invalidation;
  return call === 'purge' ? (await invalidation.create({ url: argument })).requestId : (await invalidation.get(argument)).status;
}

function describe(error) {
  if (!(error instanceof ImageKit.APIError) || !error.status) return {};
  return { status: error.status, headers: Object.fromEntries(error.headers), ...error.error };
}

answerLines(call, describe);
