import { describe, expect, test } from 'vitest';
import {
  artifactUrl,
  envelopeUrl,
  type SourceConfig,
  sourceOf,
  statusError,
  strongEtag,
} from '../../src/delivery/source.ts';
import { refusal } from '../support/documents.ts';

const config: SourceConfig = {
  serverUrl: 'http://updates.example:9000',
  mirrors: ['https://mirror.example/quantix/', 'http://[::1]:9000'],
  product: 'quantix-os',
  channel: 'stable',
};
const source = sourceOf(config);
const [base] = source.bases;

test('the server and its mirrors, in order', () => {
  expect(source.bases).toEqual(['http://updates.example:9000', 'https://mirror.example/quantix', 'http://[::1]:9000']);
});

test('the paths of the update server', () => {
  expect(envelopeUrl(base, source)).toBe(
    'http://updates.example:9000/api/v1/quantix-os/manifest/signed?channel=stable',
  );
  expect(envelopeUrl(base, source, '1.2.3')).toBe(
    'http://updates.example:9000/api/v1/quantix-os/releases/1.2.3/manifest/signed?channel=stable',
  );
  expect(artifactUrl(base, source, '1.2.3+b.1', 'qx-node.tar.zst')).toBe(
    'http://updates.example:9000/api/v1/quantix-os/releases/1.2.3%2Bb.1/qx-node.tar.zst?channel=stable',
  );
});

test('a mirror may live in a folder of its site', () => {
  expect(artifactUrl('https://mirror.example/quantix', source, '1.2.3', 'a')).toBe(
    'https://mirror.example/quantix/api/v1/quantix-os/releases/1.2.3/a?channel=stable',
  );
});

describe('T26 no name becomes another address', () => {
  test.each([
    '//evil.example/x',
    '\\\\evil.example\\x',
    'http://evil.example/x',
    'user@evil.example',
    'http:',
    '[::ffff:169.254.169.254]',
    'a#b',
    'a?b=c',
    'a/../../b',
    'a\0b',
    'a\nb',
  ])('%j stays one segment of the path', (name) => {
    const url = new URL(artifactUrl(base, source, '1.2.3', name));
    expect(url.origin).toBe('http://updates.example:9000');
    expect(url.pathname.split('/')).toHaveLength(7);
    expect([url.search, url.hash, url.username]).toEqual(['?channel=stable', '', '']);
  });

  test.each(['..', '.'])('%j is refused', async (name) => {
    expect(await refusal(() => artifactUrl(base, source, '1.2.3', name))).toBe('PATH_NOT_ALLOWED');
    expect(await refusal(() => artifactUrl(base, source, name, 'a'))).toBe('PATH_NOT_ALLOWED');
    expect(await refusal(() => envelopeUrl(base, source, name))).toBe('PATH_NOT_ALLOWED');
  });
});

test.each([
  'updates.example',
  'ftp://updates.example',
  'file:///srv',
  'http://user:secret@updates.example',
  'http://updates.example/?a=b',
  'http://updates.example/#x',
  '',
  'javascript:alert(1)',
  'http://',
])('%j is not the address of a server', async (serverUrl) => {
  expect(await refusal(() => sourceOf({ ...config, serverUrl }))).toBe('CONFIG_INVALID');
  expect(await refusal(() => sourceOf({ ...config, mirrors: [serverUrl] }))).toBe('CONFIG_INVALID');
});

test.each([
  ['"abc"', '"abc"'],
  ['""', '""'],
  ['W/"abc"', null],
  ['abc', null],
  ['"a"b"', null],
  ['"a\r\nX: y"', null],
  [`"${'a'.repeat(300)}"`, null],
  [undefined, null],
])('ETag %j', (header, etag) => {
  expect(strongEtag(header)).toBe(etag);
});

test('what a server calls its encoding cannot steer a terminal', () => {
  const response = { status: 200, headers: { 'content-encoding': '\u009b31mred' }, body: (async function* () {})() };
  expect(statusError(response, 'http://a/b').message).toBe('http://a/b answered 200 in encoding ?31mred');
});
