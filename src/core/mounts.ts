/** Whether what has to be mounted on a host is mounted, and is its own. */

/** One folder that outlives the image. */
export interface Place {
  readonly path: string;
  /** Of the file that marks it; null where there is none, empty where it cannot be read. */
  readonly installation: string | null;
  /** It has to have a mark, once any of them has. */
  readonly isKnown: boolean;
  /** False: it lies in memory or in the image, and is gone with the next boot. Null: nobody can tell. */
  readonly isLasting: boolean | null;
}

/** `unmarked`: of a host from before there were marks, or one that was never started. */
export type PlaceState = 'mounted' | 'missing' | 'foreign' | 'unmarked';

export function placeStates(places: readonly Place[]): ReadonlyMap<string, PlaceState> {
  const own = installationOf(places);
  return new Map(places.map((place) => [place.path, stateOf(place, own)]));
}

function stateOf({ installation, isKnown, isLasting }: Place, own: string | null): PlaceState {
  if (isLasting === false) return 'missing';
  if (installation === null) return own === null || !isKnown ? 'unmarked' : 'missing';
  return installation === '' || installation === own ? 'mounted' : 'foreign';
}

/** What most of them say; the first that says it, where several do. Null where none does. */
export function installationOf(places: readonly Place[]): string | null {
  const said = places.map(({ installation }) => installation).filter((id) => id !== null);
  const count = (id: string): number => (id === '' ? 0 : said.filter((one) => one === id).length);
  return said.reduce<string | null>((best, id) => (best === null || count(id) > count(best) ? id : best), null);
}

/** What is known of a host that has no marks yet. */
export interface Evidence {
  /** The boot environment is as an installer makes it: no update was ever on its way. */
  readonly isNew: boolean;
  /** /quantix has a journal, or what the agent remembers. */
  readonly isKnown: boolean;
}

/**
 * Marks are written once: on a host that is new, or one whose boot environment and journal agree that it is not. Where only one
 * of the two knows of updates, the other may just not be mounted.
 */
export const mayMark = (places: readonly Place[], { isNew, isKnown }: Evidence): boolean =>
  places.every(({ installation, isLasting }) => installation === null && isLasting !== false) && (isNew || isKnown);

/** What is there and has no mark: on a host without any all of them, else what nobody knew of, such as a volume of the settings. */
export const newPlaces = (places: readonly Place[], own: string | null): readonly string[] =>
  places
    .filter(
      ({ installation, isKnown, isLasting }) =>
        installation === null && isLasting !== false && (own === null || !isKnown),
    )
    .map(({ path }) => path);
