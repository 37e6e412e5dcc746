{{- define "cni.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{- $hub := .Values.hub | default .Values.global.hub | required "global.hub (or hub) must be set: the registry and path where the image is, such as registry.example.com/mesh" -}}
{{ $hub }}/{{ .Values.image }}:{{ .Values.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "cni.labels" -}}
k8s-app: istio-cni-node
app.kubernetes.io/name: istio-cni
app.kubernetes.io/part-of: istio
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "cni.platform" -}}
{{ .Values.platform | default .Values.global.platform }}
{{- end -}}

{{- /* Where the distributions of Kubernetes put the CNI. */ -}}
{{- define "cni.bin-dir" -}}
{{- $of := dict "gke" "/home/kubernetes/bin" "k3d" "/bin" "k3s" "/var/lib/rancher/k3s/data/cni" "microk8s" "/var/snap/microk8s/current/opt/cni/bin" -}}
{{ .Values.cniBinDir | default (get $of (include "cni.platform" .)) | default "/opt/cni/bin" }}
{{- end -}}

{{- define "cni.conf-dir" -}}
{{- $k3s := "/var/lib/rancher/k3s/agent/etc/cni/net.d" -}}
{{- $of := dict "k3d" $k3s "k3s" $k3s "microk8s" "/var/snap/microk8s/current/args/cni-network" -}}
{{ .Values.cniConfDir | default (get $of (include "cni.platform" .)) | default "/etc/cni/net.d" }}
{{- end -}}

{{- define "cni.netns-dir" -}}
{{- $of := dict "minikube" "/var/run/docker/netns" -}}
{{ .Values.cniNetnsDir | default (get $of (include "cni.platform" .)) | default "/var/run/netns" }}
{{- end -}}

{{- define "cni.resources" -}}
{{- if .Values.resources -}}
{{ toYaml .Values.resources }}
{{- else if eq (.Values.profile | default .Values.global.profile) "demo" -}}
requests: {cpu: 20m, memory: 32Mi}
{{- else -}}
requests: {cpu: 100m, memory: 100Mi}
{{- end -}}
{{- end -}}
