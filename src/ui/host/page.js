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

async function get(name) {
  const answer = await fetch(`/api/v1/updates/${name}`, { headers: { accept: 'application/json' } });
  const body = await answer.json().catch(() => ({}));
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

async function poll() {
  try {
    await showStatus();
    await showInstalled();
    if (byId('trouble').dataset.by === 'poll') complain('');
  } catch (error) {
    byId('trouble').dataset.by = 'poll';
    complain(`The agent does not answer: ${error.message}`);
  }
  // One after the other: a slow agent must not be asked again before it has answered.
  setTimeout(poll, POLL_MS);
}

byId('look').addEventListener('click', () => {
  byId('trouble').dataset.by = 'look';
  look();
});
poll();
