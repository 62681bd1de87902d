// The Updates page of a host. Plain script, as it runs: no build step stands between this file and the browser.

const POLL_MS = 3000;
const byId = (id) => document.getElementById(id);

// Everything that is shown came over the network: it is only ever set as text, never as markup.
function fill(list, rows) {
  list.replaceChildren(
    ...rows.flatMap(([name, value]) => {
      const [term, detail] = [document.createElement('dt'), document.createElement('dd')];
      term.textContent = name;
      detail.textContent = value ?? 'not installed';
      return [term, detail];
    }),
  );
}

function complain(text) {
  byId('trouble').hidden = text === '';
  byId('trouble').textContent = text;
}

// For as long as this tab is open, and no longer. Storage may be switched off: then it is asked for again.
function token(value) {
  try {
    if (value !== undefined) sessionStorage.setItem('token', value);
    return sessionStorage.getItem('token') ?? '';
  } catch {
    return value ?? '';
  }
}

async function get(name) {
  const known = token();
  const headers = { accept: 'application/json', ...(known === '' ? {} : { authorization: `Bearer ${known}` }) };
  const answer = await fetch(`/api/v1/updates/${name}`, { headers });
  const body = await answer.json().catch(() => ({}));
  byId('sign-in').hidden = answer.status !== 401;
  if (!answer.ok) throw new Error(body.detail ?? `The agent answered ${answer.status}.`);
  return body;
}

const WORDS = {
  idle: 'Nothing is going on.',
  checking: 'Looking for updates.',
  up_to_date: 'This host is up to date.',
  available: 'An update is available.',
  downloading: 'Downloading.',
  applying: 'Installing.',
  complete: 'The update is complete.',
  error: 'The last update failed.',
  reboot_required: 'Reboot to complete the update.',
};

const sizeOf = (bytes) => (bytes < 1048576 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`);

async function showStatus() {
  const { status, message, progress } = await get('status');
  byId('state').textContent = [WORDS[status] ?? status, message].filter(Boolean).join(' ');
  byId('progress').hidden = typeof progress !== 'number';
  byId('progress').value = progress ?? 0;
}

async function showInstalled() {
  const [current, version] = await Promise.all([get('current'), get('version')]);
  byId('hostname').textContent = version.hostname;
  fill(byId('installed'), [
    ['Quantix-OS', current.osVersion],
    ['Agent', current.qxNode],
    ['Console', current.qxConsole],
    ['This page', current.hostUi],
    ['Channel', version.channel],
  ]);
}

async function look() {
  byId('look').disabled = true;
  try {
    const check = await get('check');
    complain('');
    const image = check.fullImageAvailable ? [['System image', 'yes, with a reboot']] : [];
    const size = ['Download', sizeOf(check.totalDownloadSize)];
    const parts = check.components.map((c) => [c.name, `${c.currentVersion ?? 'new'} → ${c.newVersion}`]);
    const version = ['Version', check.availableVersion ?? '(unknown)'];
    fill(byId('offered'), check.available ? [version, ...parts, ...image, size] : [['Newer release', 'none']]);
    byId('notes').textContent = check.available ? (check.releaseNotes ?? '') : '';
  } catch (error) {
    complain(error.message);
  } finally {
    byId('look').disabled = false;
  }
}

async function refresh() {
  try {
    await showStatus();
    await showInstalled();
    if (byId('trouble').dataset.by === 'poll') complain('');
  } catch (error) {
    byId('trouble').dataset.by = 'poll';
    complain(byId('sign-in').hidden ? `The agent does not answer: ${error.message}` : error.message);
  }
}

async function poll() {
  // A token that was refused is not tried over and over: each try counts as a guess.
  if (byId('sign-in').hidden) await refresh();
  // One after the other: a slow agent must not be asked again before it has answered.
  setTimeout(poll, POLL_MS);
}

byId('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  token(byId('token').value.trim());
  byId('token').value = '';
  refresh();
});
byId('look').addEventListener('click', () => {
  byId('trouble').dataset.by = 'look';
  look();
});
poll();
