import { describe, expect, test } from 'vitest';
import { BUNDLE_URL, offlineHttp, offlineSource, readBundle } from '../../src/delivery/offline.ts';
import { artifactUrl, envelopeUrl, WAIT_LIMITS } from '../../src/delivery/source.ts';
import type { OpenBundle } from '../../src/ports/bundle.ts';
import { bytesOf, refusal, textOf } from '../support/documents.ts';
import { componentOf, signedManifest, testKey } from '../support/keys.ts';

const CONTENT = bytesOf('0123456789');
const release = await signedManifest({ manifest: { components: [componentOf('qx-node', CONTENT)] } });
const source = offlineSource({ product: 'quantix-os', channel: 'dev' });
const LIMITS = { ...WAIT_LIMITS, maxBytes: 1 << 20 };

const bundleOf = (files: Readonly<Record<string, Uint8Array>> = {}, kind: OpenBundle['kind'] = 'file'): OpenBundle => {
  const all = { 'manifest.signed.json': release.envelope, 'qx-node.tar.zst': CONTENT, ...files };
  return {
    kind,
    entries: Object.entries(all).map(([name, { length }]) => ({ name, sizeBytes: length })),
    read: async function* (name, start) {
      const bytes = new Map(Object.entries(all)).get(name) ?? new Uint8Array();
      for (let at = start; at < bytes.length; at += 4) yield bytes.subarray(at, at + 4);
    },
    close: async () => undefined,
  };
};

async function ask(bundle: OpenBundle, url: string, headers: Readonly<Record<string, string>> = {}, limits = LIMITS) {
  const http = await offlineHttp(bundle, source, release.keyring);
  const response = await http.get(url, { headers, limits });
  const chunks: string[] = [];
  for await (const chunk of response.body) chunks.push(textOf(chunk));
  return { status: response.status, headers: response.headers, text: chunks.join('') };
}

const artifact = artifactUrl(BUNDLE_URL, source, '1.1.0', 'qx-node.tar.zst');

describe('a bundle answers', () => {
  test.each([
    ['the newest of the channel', envelopeUrl(BUNDLE_URL, source)],
    ['its version', envelopeUrl(BUNDLE_URL, source, '1.1.0')],
  ])('who asks for %s with its envelope', async (_what, url) => {
    const answer = await ask(bundleOf(), url);
    expect(answer).toMatchObject({ status: 200, text: textOf(release.envelope) });
    expect(answer.headers['content-length']).toBe(String(release.envelope.length));
  });

  test('who asks for an artifact with its bytes, from where they are asked for', async () => {
    expect(await ask(bundleOf(), artifact)).toEqual({
      status: 200,
      headers: { 'content-length': '10' },
      text: '0123456789',
    });
    expect(await ask(bundleOf(), artifact, { range: 'bytes=7-' })).toEqual({
      status: 206,
      headers: { 'content-length': '3', 'content-range': 'bytes 7-9/10' },
      text: '789',
    });
    expect(await ask(bundleOf(), artifact, { range: 'bytes=10-' })).toEqual({
      status: 416,
      headers: { 'content-length': '0', 'content-range': 'bytes */10' },
      text: '',
    });
  });

  test.each([
    ['of which it has no ETag', { range: 'bytes=7-', 'if-range': '"of a server"' }],
    ['that it does not read', { range: 'bytes=-3' }],
  ])('a range %s with everything', async (_what, headers) => {
    expect(await ask(bundleOf(), artifact, headers)).toMatchObject({ status: 200, text: '0123456789' });
  });

  test.each([
    ['another version', envelopeUrl(BUNDLE_URL, source, '1.1.1')],
    ['another channel', envelopeUrl(BUNDLE_URL, { ...source, channel: 'stable' })],
    ['another product', envelopeUrl(BUNDLE_URL, { ...source, product: 'quantix-vdc' })],
    ['another server', envelopeUrl('http://updates.example', source)],
    ['an artifact of another version', artifactUrl(BUNDLE_URL, source, '1.1.1', 'qx-node.tar.zst')],
    ['an artifact that is in no release', artifactUrl(BUNDLE_URL, source, '1.1.0', 'stray')],
    ['its envelope as an artifact', artifactUrl(BUNDLE_URL, source, '1.1.0', 'manifest.signed.json')],
    ['a name of every object', artifactUrl(BUNDLE_URL, source, '1.1.0', 'constructor')],
    ['nothing at all', `${BUNDLE_URL}/`],
  ])('who asks for %s with 404', async (_what, url) => {
    expect(await ask(bundleOf({ stray: bytesOf('x') }, 'folder'), url)).toMatchObject({ status: 404, text: '' });
  });

  test('no more than is taken', async () => {
    const limits = { ...LIMITS, maxBytes: 9 };
    expect(await refusal(() => ask(bundleOf(), artifact, {}, limits))).toBe('RESPONSE_TOO_LARGE');
  });

  test('nothing any more once it is cancelled', async () => {
    const http = await offlineHttp(bundleOf(), source, release.keyring);
    const stop = new AbortController();
    const { body } = await http.get(artifact, { limits: LIMITS, signal: stop.signal });
    const chunks = body[Symbol.asyncIterator]();
    expect(await chunks.next()).toMatchObject({ done: false });
    stop.abort();
    expect(await refusal(() => chunks.next())).toBe('CANCELLED');
  });
});

describe('what its release does not speak of, or speaks of and is not there', () => {
  const whole = bundleOf();
  const cases: readonly (readonly [string, OpenBundle, string | null])[] = [
    ['all is there', whole, null],
    ['an artifact is missing', { ...whole, entries: whole.entries.slice(0, 1) }, 'ARTIFACT_MISSING'],
    ['an artifact is too short', bundleOf({ 'qx-node.tar.zst': CONTENT.subarray(1) }), 'SIZE_MISMATCH'],
    ['a file too many in a bundle', bundleOf({ stray: CONTENT }), 'ARTIFACT_UNLISTED'],
    ['a file too many in a folder', bundleOf({ stray: CONTENT }, 'folder'), null],
  ];
  test.each(cases)('%s', async (_what, bundle, code) => {
    expect(await refusal(() => offlineHttp(bundle, source, release.keyring))).toBe(code);
    expect(await refusal(() => readBundle(bundle, release.keyring))).toBe(code);
  });

  test('does not matter before somebody trusted has signed it: only the envelope is answered, to be refused', async () => {
    const stranger = await signedManifest({ keys: [await testKey('stranger')] });
    const bundle = bundleOf({ 'manifest.signed.json': stranger.envelope, stray: CONTENT });
    expect(await ask(bundle, envelopeUrl(BUNDLE_URL, source))).toMatchObject({ text: textOf(stranger.envelope) });
    expect(await ask(bundle, artifact)).toMatchObject({ status: 404 });
    expect(await refusal(() => readBundle(bundle, release.keyring))).toBe('KEY_UNKNOWN');
  });
});
