/** What is published. */
export interface Message {
  topic: string;
  /** JSON. */
  payload: string;
}
