// One process, or a cluster of so many.
"use strict";
const cluster = require("node:cluster");

module.exports = (serve) => {
  const workers = Number(process.env.WORKERS);
  if (workers > 1 && cluster.isPrimary) {
    for (let n = 0; n < workers; n += 1) cluster.fork();
    process.on("SIGTERM", () => process.exit(0));
  } else {
    serve();
  }
};
