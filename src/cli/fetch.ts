/** The hidden program that `system/isolated-http.ts` starts. It loads nothing but what fetching needs. */
export async function main(): Promise<number> {
  const { fetchForAgent } = await import('../system/fetch/child.ts');
  return fetchForAgent();
}
