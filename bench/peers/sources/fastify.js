// A Fastify gateway of its own plugins. Tuned: verified tokens are kept, the log is
// written in blocks, connections are kept.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const pino = require("pino");
const fastify = require("fastify");
const Redis = require("ioredis").Redis;

const limits = JSON.parse(process.env.LIMITS);
const redis = new Redis(process.env.REDIS_URL);

function refuse(reply, status, code, message) {
  return reply.code(status).send({ code, message, requestId: reply.request.id });
}

async function authenticate(request, reply) {
  try {
    await request.jwtVerify();
  } catch {
    return refuse(reply, 401, "TOKEN_INVALID", "This token is not valid");
  }
  if (await redis.exists(`bl:${request.user.jti}`)) {
    return refuse(reply, 401, "TOKEN_REVOKED", "This token was revoked");
  }
  return undefined;
}

require("./workers")(async () => {
  const app = fastify({
    loggerInstance: pino(
      pino.destination({ dest: process.env.LOG, sync: false, minLength: 4096 }),
    ),
    genReqId: () => crypto.randomUUID(),
  });
  await app.register(require("@fastify/helmet"));
  await app.register(require("@fastify/cors"), { origin: process.env.ORIGIN, credentials: true });
  await app.register(require("@fastify/jwt"), {
    secret: fs.readFileSync(process.env.SECRET_FILE),
    verify: { algorithms: ["HS256"], cache: 10000 },
  });
  app.addHook("onRequest", authenticate);
  await app.register(require("@fastify/rate-limit"), {
    hook: "preHandler",
    redis,
    keyGenerator: (request) => `${request.user.role}:${request.user.sub}`,
    max: (request) => limits[request.user.role][0],
    timeWindow: (request) => limits[request.user.role][1] * 1000,
  });
  await app.register(require("@fastify/http-proxy"), {
    upstream: process.env.UPSTREAM,
    httpMethods: ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"], // OPTIONS is CORS'
    undici: { connections: 128, pipelining: 1 },
    replyOptions: {
      rewriteRequestHeaders: (request, headers) => ({
        ...headers,
        "x-user-id": request.user.sub,
        "x-user-role": request.user.role,
        "x-request-id": request.id,
      }),
    },
  });
  await app.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 8192 });
});
