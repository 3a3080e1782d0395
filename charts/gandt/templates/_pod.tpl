{{/* Pod template of a workload: (dict "root" $ "name" NAME). It passes the restricted Pod Security Standard. */}}
{{- define "gandt.pod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $name := .name -}}
{{- $own := get $v $name -}}
{{- $facts := fromYaml (include "gandt.facts" $root) -}}
{{- $alone := eq $name "standalone" -}}
{{- $gpu := and (eq $name "embedding") $v.embedding.gpu.enabled -}}
{{- $image := $alone | ternary "cpu" (get (get $facts $name | default dict) "image") -}}
{{- if $gpu -}}{{- $image = "gpu" -}}{{- end -}}
metadata:
  labels:
    {{- include "gandt.labels" . | nindent 4 }}
    {{- with $v.podLabels }}{{ toYaml . | nindent 4 }}{{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: gandt
    {{- if and $alone (not $v.auth.existingSecret) }}
    checksum/first-start: {{ $root.Files.Get "files/first_start.py" | sha256sum }}
    {{- end }}
    {{- with $v.podAnnotations }}{{ toYaml . | nindent 4 }}{{- end }}
spec:
  serviceAccountName: {{ include "gandt.object" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add (int $v.serve.preStopSeconds) (int $v.serve.drainSeconds) 10 }}
  {{- with $v.image.pullSecrets }}
  imagePullSecrets: [{{ range $i, $s := . }}{{ if $i }}, {{ end }}{name: {{ $s }}}{{ end }}]
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if $gpu }}{{ with $v.embedding.gpu.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}{{ end }}
  dnsConfig: {options: [{name: ndots, value: "2"}]}
  securityContext:
    runAsNonRoot: true
    {{- toYaml $v.podSecurity | nindent 4 }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with merge (dict) ($own.nodeSelector | default dict) $v.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $tolerations := concat $v.tolerations ($own.tolerations | default list) }}
  {{- if $gpu }}{{- $tolerations = append $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") }}{{- end }}
  {{- with $tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: {matchLabels: {{ include "gandt.selector" $ | fromYaml | toJson }}}
    {{- end }}
  {{- if and $alone (not $v.auth.existingSecret) }}
  initContainers:
    - name: first-start
      image: {{ include "gandt.image" (dict "root" $root "image" $image) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [python, /first-start/first_start.py, /var/lib/gandt/gandt.toml]
      securityContext: {{- include "gandt.container.security" $ | nindent 8 }}
      resources:
        requests: {cpu: 50m, memory: 64Mi}
        limits: {memory: 64Mi}
      volumeMounts:
        - {name: data, mountPath: /var/lib/gandt}
        - {name: first-start, mountPath: /first-start, readOnly: true}
  {{- end }}
  containers:
    - name: gandt
      image: {{ include "gandt.image" (dict "root" $root "image" $image) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [python, -m, gandt_{{ $name }}]
      securityContext: {{- include "gandt.container.security" $ | nindent 8 }}
      env: {{- include "gandt.env" . | nindent 8 }}
      ports:
        {{- range $member := splitList " " (include "gandt.members" .) }}
        {{- $fact := get $facts $member }}
        - {name: {{ eq $fact.protocol "http" | ternary "http" (printf "g-%s" $member) }}, containerPort: {{ int $fact.port }}}
        {{- if $fact.health }}
        - {name: h-{{ $member }}, containerPort: {{ int $fact.health }}}
        {{- end }}
        - {name: m-{{ $member }}, containerPort: {{ int $fact.metrics }}}
        {{- end }}
      {{- include "gandt.probes" (dict "fact" ($alone | ternary (merge (dict "startSeconds" 600) $facts.labeling) (get $facts $name))) | nindent 6 }}
      lifecycle: {preStop: {sleep: {seconds: {{ int $v.serve.preStopSeconds }}}}}
      resources: {{- include "gandt.resources" (dict "own" $own "gpu" $gpu) | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/gandt}
        - {name: tmp, mountPath: /tmp}
        - {name: cache, mountPath: /cache}
        - {name: shm, mountPath: /dev/shm}
        {{- if $v.tls.enabled }}
        - {name: tls, mountPath: /tls, readOnly: true}
        {{- end }}
  volumes:
    {{- $kept := and (include "gandt.owns" .) $v.persistence.enabled }}
    {{- if not $kept }}
    - {name: data, emptyDir: {}}
    {{- end }}
    - {name: tmp, emptyDir: {}}
    - {name: cache, emptyDir: {}}
    - {name: shm, emptyDir: {medium: Memory, sizeLimit: 256Mi}}
    {{- if and $alone (not $v.auth.existingSecret) }}
    - {name: first-start, configMap: {name: {{ include "gandt.fullname" $root }}-first-start}}
    {{- end }}
    {{- if $v.tls.enabled }}
    - {name: tls, secret: {secretName: {{ default (printf "%s-tls" (include "gandt.object" .)) $v.tls.existingSecret }}, defaultMode: 0440}}
    {{- end }}
{{- end -}}

{{- define "gandt.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Requests of extended resources equal their limits. */}}
{{- define "gandt.resources" -}}
{{- $resources := deepCopy .own.resources -}}
{{- if .gpu -}}
{{- $card := dict .own.gpu.resourceName (int .own.gpu.count) -}}
{{- $_ := set $resources "limits" (merge (dict) $card ($resources.limits | default dict)) -}}
{{- $_ := set $resources "requests" (merge (dict) $card ($resources.requests | default dict)) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{/*
Startup waits for the model; readiness is the service's own state; liveness asks only whether the process answers.
gRPC probes speak plaintext, so they use the health port.
*/}}
{{- define "gandt.probes" -}}
{{- $fact := .fact -}}
{{- $failures := div (int $fact.startSeconds) 5 -}}
{{- if eq $fact.protocol "grpc" -}}
startupProbe: {grpc: {port: {{ int $fact.health }}, service: {{ $fact.api }}}, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: {{ $failures }}}
readinessProbe: {grpc: {port: {{ int $fact.health }}, service: {{ $fact.api }}}, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 2}
livenessProbe: {grpc: {port: {{ int $fact.health }}}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
{{- else -}}
startupProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: {{ $failures }}}
readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 2}
livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
{{- end -}}
{{- end -}}
