# The server alone: no tools, no tests. It runs from the sources, there is no build.
FROM node:24.21.0-bookworm-slim

ENV NODE_ENV=production
WORKDIR /app

# The image has the right Node; the optional packages would bring it a second time.
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional && npm cache clean --force

COPY bin ./bin
COPY migrations ./migrations
COPY schema ./schema
COPY src ./src

# The embedded database, where neither DATABASE_URL nor REDIS_URL is given.
ENV DATA_DIR=/data HOST=0.0.0.0 PORT=4000
RUN install --directory --owner=node --group=node --mode=0700 /data
VOLUME /data
USER node
EXPOSE 4000

HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]

CMD ["node", "src/main.ts"]
