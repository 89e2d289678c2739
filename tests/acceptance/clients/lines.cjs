// The same conversation as lines.py, for the Node clients.
'use strict';
const readline = require('node:readline');

exports.answerLines = async function answerLines(call, describe) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer;
    try {
      answer = { value: await call(JSON.parse(line)) };
    } catch (error) {
      answer = { error: error?.constructor?.name, message: error?.message, ...describe(error) };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
};
