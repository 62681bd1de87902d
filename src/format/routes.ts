import { type Static, Type } from 'typebox';
import { Envelope } from './envelope.ts';
import { ARTIFACT_PATTERN, ChannelName, Manifest, ProductName } from './manifest.ts';
import type { RouteTable } from './route.ts';
import { INSTANT_PATTERN } from './schema.ts';
import { VERSION_MAX_LENGTH, VERSION_PATTERN } from './version.ts';

/** The REST interface of the update server. */

const version = Type.String({ pattern: VERSION_PATTERN, maxLength: VERSION_MAX_LENGTH });
const artifact = Type.String({ pattern: ARTIFACT_PATTERN });

const ofProduct = Type.Object({ product: ProductName });
const ofRelease = Type.Object({ product: ProductName, version });
const ofArtifact = Type.Object({ product: ProductName, version, artifact });
const inChannel = Type.Object({ channel: Type.Optional(Type.Enum(ChannelName.enum, { default: 'dev' })) });

const ReleaseSummary = Type.Object({
  version,
  channel: ChannelName,
  release_date: Type.String({ pattern: INSTANT_PATTERN }),
  update_type: Type.Enum(['component', 'full']),
});

const Published = Type.Object({
  status: Type.Literal('published'),
  product: ProductName,
  version,
  channel: ChannelName,
  artifacts: Type.Array(artifact),
});
export type Published = Static<typeof Published>;

const Deleted = Type.Object({
  status: Type.Literal('deleted'),
  product: ProductName,
  version,
  channel: ChannelName,
});

const PublicKey = Type.Object({
  public_key: Type.Union([Type.String(), Type.Null()], { description: 'base64 of 32 bytes; null: it signs nothing' }),
  key_id: Type.Union([Type.String(), Type.Null()]),
  algorithm: Type.Literal('ed25519'),
  keys: Type.Array(Type.Object({ key_id: Type.String(), public_key: Type.String() }), {
    description: 'those whose releases it takes',
  }),
});

const inAnyChannel = Type.Object({
  channel: Type.Optional({ ...ChannelName, description: 'only this one; all of them unless said' }),
});

const Ready = Type.Object({
  status: Type.Enum(['ready', 'not_ready']),
  checks: Type.Array(
    Type.Object({
      name: Type.Enum(['database', 'releases']),
      ok: Type.Boolean(),
      detail: Type.Optional(Type.String()),
    }),
  ),
});
export type Ready = Static<typeof Ready>;

const GeneratedKeys = Type.Object({
  status: Type.Literal('generated'),
  private_key: Type.String({ description: 'path on the server' }),
  public_key: Type.String({ description: 'path on the server' }),
  note: Type.String(),
});

export const SERVER_ROUTES = {
  health: {
    method: 'GET',
    path: '/health',
    who: 'open',
    summary: 'Whether the server answers',
    content: 'json',
    response: Type.Object({ status: Type.Literal('healthy'), timestamp: Type.String() }),
  },
  ready: {
    method: 'GET',
    path: '/ready',
    who: 'open',
    summary:
      'Whether the server can do its work: 503, and what is missing, when its database or its releases are not there',
    content: 'json',
    response: Ready,
  },
  channels: {
    method: 'GET',
    path: '/api/v1/channels',
    who: 'open',
    summary: 'Release channels',
    content: 'json',
    response: Type.Array(Type.Object({ name: ChannelName, description: Type.String() })),
  },
  latestManifest: {
    method: 'GET',
    path: '/api/v1/{product}/manifest',
    who: 'open',
    summary: 'Manifest of the newest release, without its signature',
    params: ofProduct,
    query: inChannel,
    content: 'manifest',
    response: Manifest,
  },
  latestSigned: {
    method: 'GET',
    path: '/api/v1/{product}/manifest/signed',
    who: 'open',
    summary: 'Signed envelope of the newest release, byte for byte as published',
    params: ofProduct,
    query: inChannel,
    content: 'manifest',
    response: Envelope,
  },
  releases: {
    method: 'GET',
    path: '/api/v1/{product}/releases',
    who: 'open',
    summary: 'Releases of a channel, or of all of them, newest first',
    params: ofProduct,
    query: inAnyChannel,
    content: 'json',
    response: Type.Array(ReleaseSummary),
  },
  releaseManifest: {
    method: 'GET',
    path: '/api/v1/{product}/releases/{version}/manifest',
    who: 'open',
    summary: 'Manifest of one release, without its signature',
    params: ofRelease,
    query: inChannel,
    content: 'manifest',
    response: Manifest,
  },
  releaseSigned: {
    method: 'GET',
    path: '/api/v1/{product}/releases/{version}/manifest/signed',
    who: 'open',
    summary: 'Signed envelope of one release, byte for byte as published',
    params: ofRelease,
    query: inChannel,
    content: 'manifest',
    response: Envelope,
  },
  artifact: {
    method: 'GET',
    path: '/api/v1/{product}/releases/{version}/{artifact}',
    who: 'open',
    summary: 'One file of a release; manifest.json and manifest.signed.json are names too',
    params: ofArtifact,
    query: inChannel,
    content: 'file',
    response: Type.Unsafe<Uint8Array>({ type: 'string', format: 'binary' }),
  },
  publish: {
    method: 'POST',
    path: '/api/v1/{product}/publish',
    who: 'publisher',
    summary:
      'Publish a release: a part `manifest` (the signed envelope) and one part per file, named by component or file name, `full_image` for the image',
    params: ofProduct,
    body: 'multipart',
    content: 'json',
    response: Published,
    status: 201,
  },
  deleteRelease: {
    method: 'DELETE',
    path: '/api/v1/{product}/releases/{version}',
    who: 'publisher',
    summary: 'Take a release away',
    params: ofRelease,
    query: inChannel,
    content: 'json',
    response: Deleted,
  },
  generateKeys: {
    method: 'POST',
    path: '/api/v1/admin/generate-keys',
    who: 'publisher',
    summary: 'Make a signing key outside the served tree; only a server started with --dev does it',
    content: 'json',
    response: GeneratedKeys,
  },
  publicKey: {
    method: 'GET',
    path: '/api/v1/admin/public-key',
    who: 'open',
    summary: 'Public key of the server, when it signs releases itself, and the keys whose releases it takes',
    content: 'json',
    response: PublicKey,
  },
} as const satisfies RouteTable;
